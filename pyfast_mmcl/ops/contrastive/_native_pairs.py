"""Glue to the compiled pair primitives: allocates outputs, passes DLPack capsules and torch's thread count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _native
from ._pairs import KLPull, KLSide, Pull, Side

_capsule = _native.capsule


def usable(*tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled primitives take these tensors, and why not."""
    for t in tensors:
        if t.device.type != "cpu":
            return False, f"compiled for the CPU, the rows are on {t.device}"
        if t.dtype == torch.float64:
            return False, "float64 rows run on the torch tiles"
    return _native.available()


def reference_rows(rows: Tensor, precision: str) -> Any:
    """Rows [M, D] packed in both layouts; takes the place of ``b`` (and ``tb``) below where b has no gradient."""
    return _native.module().ReferenceRows(_capsule(rows), _bfloat16(rows, precision), torch.get_num_threads())


def pair_stats(
    a: Tensor,
    b: Any,
    scale: Any,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    rows: bool = True,
    cols: bool = True,
    exclude_self: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    symmetric: bool = False,
    precision: str = "auto",
) -> tuple[Side | None, Side | None]:
    """See `_pairs.pair_stats`."""
    row = _new_side(a.shape[0]) if rows or symmetric else None
    col = _new_side(len(col_ids)) if cols and not symmetric else None
    _native.module().pair_stats(
        _capsule(a),
        _other(b),
        float(scale),
        _ids(row_ids),
        _ids(col_ids),
        _side_capsules(row),
        _side_capsules(col),
        exclude_self,
        row_offset - col_offset,
        symmetric,
        _bfloat16(a, precision),
        torch.get_num_threads(),
    )
    return row, col


def pair_grads(
    a: Tensor,
    b: Any,
    scale: Any,
    row: Pull | None,
    col: Pull | None,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    need_a: bool = True,
    need_b: bool = True,
    exclude_self: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    symmetric: bool = False,
    precision: str = "auto",
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """See `_pairs.pair_grads`."""
    need_b = need_b and not symmetric
    da, db = _new_gradients(a, b, need_a or symmetric or not need_b, need_b)
    dscale = _native.module().pair_grads(
        _capsule(a),
        _other(b),
        float(scale),
        _ids(row_ids),
        _ids(col_ids),
        _pull_capsules(row),
        _pull_capsules(col),
        None if da is None else _capsule(da),
        None if db is None else _capsule(db),
        exclude_self,
        row_offset - col_offset,
        symmetric,
        _bfloat16(a, precision),
        torch.get_num_threads(),
    )
    return (da if need_a else None), db, torch.tensor(dscale, dtype=torch.float64, device="cpu")


def contrast_directly(
    a: Tensor,
    b: Tensor,
    scale: float,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    row_weight: float,
    col_weight: float,
    symmetric: bool = False,
    need_a: bool = True,
    need_b: bool = True,
    precision: str = "auto",
) -> tuple[float, Tensor | None, Tensor | None, float]:
    """(loss, da, db, dscale) of row_weight·Σ_i (lse_i − pos_i) + col_weight·the same of columns, one positive each."""
    da, db = _new_gradients(a, b, need_a, need_b)
    loss, dscale = _native.module().contrast_directly(
        _capsule(a),
        _capsule(b),
        scale,
        _ids(row_ids),
        _ids(col_ids),
        symmetric,
        row_weight,
        col_weight,
        None if da is None else _capsule(da),
        None if db is None else _capsule(db),
        _bfloat16(a, precision),
        torch.get_num_threads(),
    )
    return loss, da, db, dscale


def siglip_pass(
    a: Tensor,
    b: Any,
    scale: Any,
    bias: Any,
    *,
    row_ids: Tensor,
    col_ids: Tensor,
    need_a: bool = True,
    need_b: bool = True,
    precision: str = "auto",
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """See `_pairs.siglip_pass`."""
    scale = float(scale)
    da, db = _new_gradients(a, b, need_a or scale == 0, need_b)  # at scale 0 the scale's gradient is formed from da
    sums = _native.module().siglip(
        _capsule(a),
        _other(b),
        scale,
        float(bias),
        _ids(row_ids),
        _ids(col_ids),
        None if da is None else _capsule(da),
        None if db is None else _capsule(db),
        _bfloat16(a, precision),
        torch.get_num_threads(),
    )
    loss, dscale, dbias = torch.tensor(sums, dtype=torch.float64, device="cpu").unbind()
    return loss, (da if need_a else None), db, dscale, dbias


def kl_stats(
    sa: Tensor,
    sb: Any,
    ta: Tensor,
    tb: Any,
    s_scale: Any,
    t_scale: Any,
    *,
    rows: bool = True,
    cols: bool = True,
    exclude_diagonal: bool = False,
    want_right: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    precision: str = "auto",
) -> tuple[KLSide | None, KLSide | None]:
    """See `_pairs.kl_stats`."""
    row = _new_kl_side(sa.shape[0]) if rows else None
    col = _new_kl_side(_length(sb)) if cols else None
    _native.module().kl_stats(
        _capsule(sa),
        _other(sb),
        _capsule(ta),
        _other(tb),
        float(s_scale),
        float(t_scale),
        _kl_capsules(row, want_right),
        _kl_capsules(col, want_right),
        exclude_diagonal,
        row_offset - col_offset,
        _bfloat16(sa, precision),
        torch.get_num_threads(),
    )
    return row, col


def kl_grads(
    sa: Tensor,
    sb: Any,
    ta: Tensor,
    tb: Any,
    s_scale: Any,
    t_scale: Any,
    row: KLPull | None,
    col: KLPull | None,
    *,
    exclude_diagonal: bool = False,
    row_offset: int = 0,
    col_offset: int = 0,
    need_a: bool = True,
    need_b: bool = True,
    precision: str = "auto",
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """See `_pairs.kl_grads`."""
    da, db = _new_gradients(sa, sb, need_a or not need_b, need_b)
    dscale = _native.module().kl_grads(
        _capsule(sa),
        _other(sb),
        _capsule(ta),
        _other(tb),
        float(s_scale),
        float(t_scale),
        _capsules(() if row is None else tuple(_vector(x) for x in row)),
        _capsules(() if col is None else tuple(_vector(x) for x in col)),
        None if da is None else _capsule(da),
        None if db is None else _capsule(db),
        exclude_diagonal,
        row_offset - col_offset,
        _bfloat16(sa, precision),
        torch.get_num_threads(),
    )
    return (da if need_a else None), db, torch.tensor(dscale, dtype=torch.float64, device="cpu")


def _bfloat16(a: Tensor, precision: str) -> bool:
    return precision == "bfloat16" or (precision == "auto" and a.dtype == torch.bfloat16)


def _other(b: Any) -> Any:
    return _capsule(b) if isinstance(b, Tensor) else b


def _length(b: Any) -> int:
    return b.shape[0] if isinstance(b, Tensor) else len(b)


def _ids(ids: Tensor) -> Any:
    return _capsule(ids.contiguous())


def _vector(x: Tensor) -> Tensor:
    return x.to(torch.float32).contiguous()


def _capsules(tensors: tuple[Tensor, ...]) -> tuple[Any, ...]:
    return tuple(_capsule(t) for t in tensors)


def _side_capsules(side: Side | None) -> tuple[Any, ...]:
    return () if side is None else _capsules((side.max, side.sum, side.pos))


def _pull_capsules(pull: Pull | None) -> tuple[Any, ...]:
    return () if pull is None else _capsules((_vector(pull.max), _vector(pull.coef), _vector(pull.pos)))


def _new(shape: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")  # whatever torch's defaults are


def _new_side(n: int) -> Side:
    return Side(_new(n), _new(n, torch.float64), _new(n, torch.float64))


def _new_kl_side(n: int) -> KLSide:
    s_sum, t_sum, cross = (_new(n, torch.float64) for _ in range(3))
    return KLSide(_new(n), _new(n), s_sum, t_sum, cross, torch.zeros(n, dtype=torch.bool, device="cpu"))


def _kl_capsules(side: KLSide | None, want_right: bool) -> tuple[Any, ...]:
    if side is None:
        return ()
    right = (side.t_right.view(torch.uint8),) if want_right else ()
    return _capsules((side.s_max, side.t_max, side.s_sum, side.t_sum, side.cross, *right))


def _new_gradients(a: Tensor, b: Any, need_a: bool, need_b: bool) -> tuple[Tensor | None, Tensor | None]:
    return _new(a.shape) if need_a else None, _new(b.shape) if need_b else None
