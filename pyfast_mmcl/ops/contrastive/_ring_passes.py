"""The pair primitives over all ranks: the columns travel, each rank meets every block of them with its own rows.

Forward: column statistics follow their block. Backward: column gradients (float32; float64 for float64 rows) follow
it. Row statistics and row gradients never leave their rank. Blocks are met in ring order, so that the order of every
sum, and with it every bit of the result, is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import _pairs
from ._pairs import Pull, Side
from ._ring_agree import Shares
from ._ring_wire import Follower, Wire, pad


@dataclass(frozen=True)
class Ring:
    """What every pass over one pair of sides needs to know."""

    wire: Wire
    shares: Shares
    row_ids: Tensor  # int64 [N] of this rank
    col_ids: Tensor  # int64 [M] of this rank
    exclude_self: bool
    precision: str
    backend: str

    @property
    def padded(self) -> int:
        """Rows of a travelling block: the most any rank has, and at least one."""
        return max(1, *self.shares.cols)

    def padded_all(self, tensors: list[Tensor]) -> list[Tensor]:
        """Tensors of one block made as long as every rank's."""
        return [pad(t, self.padded) for t in tensors]

    def cut(self, tensors: list[Tensor], owner: int) -> list[Tensor]:
        """The rows of a block that ``owner`` really has."""
        return [t[: self.shares.cols[owner]] for t in tensors]

    def options(self, owner: int) -> dict[str, Any]:
        """Keywords of the primitives for this rank's rows against the columns of ``owner``."""
        offsets = {
            "row_offset": self.shares.row_offset(self.wire.rank),
            "col_offset": self.shares.col_offset(owner),
        }
        return {**offsets, "exclude_self": self.exclude_self, "precision": self.precision, "backend": self.backend}


def ring_stats(ring: Ring, a: Tensor, b: Tensor, scale: Any, *, rows: bool, cols: bool) -> tuple[Side | None, ...]:
    """Row statistics of the own rows [N] over all columns, column statistics of the own columns [M] over all rows."""
    row: Side | None = None
    follower = Follower(ring.wire, merge_sides)
    for owner, block in ring.wire.circulate(ring.padded_all([b, ring.col_ids])):
        columns, ids = ring.cut(block, owner)
        part, part_cols = _pairs.pair_stats(
            a, columns, scale, row_ids=ring.row_ids, col_ids=ids, rows=rows, cols=cols, **ring.options(owner)
        )
        if part is not None:
            row = part if row is None else _pairs.merge(row, part)
        if part_cols is not None:
            follower.add(ring.padded_all([part_cols.max, part_cols.sum, part_cols.pos]))
    return row, Side(*ring.cut(follower.home(), ring.wire.rank)) if cols else None


def ring_grads(
    ring: Ring, a: Tensor, b: Tensor, scale: Any, row: Pull | None, col: Pull | None, *, need_a: bool, need_b: bool
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """da [N, D] of the own rows, db [M, D] of the own columns, both over all ranks; dscale of the own rows' pairs."""
    pulled = [col.max, col.coef, col.pos] if col is not None else []
    da: Tensor | None = None
    dscale = torch.zeros((), dtype=torch.float64, device=a.device)
    follower = Follower(ring.wire, add_sums)
    for owner, block in ring.wire.circulate(ring.padded_all([b, ring.col_ids, *pulled])):
        columns, ids, *side = ring.cut(block, owner)
        part_a, part_b, part_scale = _pairs.pair_grads(
            a,
            columns,
            scale,
            row,
            Pull(*side) if side else None,
            row_ids=ring.row_ids,
            col_ids=ids,
            need_a=need_a,
            need_b=need_b,
            **ring.options(owner),
        )
        if part_a is not None:
            da = part_a if da is None else da.add_(part_a)
        if part_b is not None:
            follower.add(ring.padded_all([part_b]))
        dscale += part_scale
    return da, ring.cut(follower.home(), ring.wire.rank)[0] if need_b else None, dscale


def ring_siglip(
    ring: Ring, a: Tensor, b: Tensor, scale: Any, bias: Any, *, need_a: bool, need_b: bool
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor, Tensor]:
    """Sum of softplus(−y·s) over the own rows and all columns, with da, db as in `ring_grads`, dscale and dbias."""
    sums = torch.zeros(3, dtype=torch.float64, device=a.device)  # loss, dscale, dbias
    da: Tensor | None = None
    follower = Follower(ring.wire, add_sums)
    for owner, block in ring.wire.circulate(ring.padded_all([b, ring.col_ids])):
        columns, ids = ring.cut(block, owner)
        loss, part_a, part_b, dscale, dbias = _pairs.siglip_pass(
            a,
            columns,
            scale,
            bias,
            row_ids=ring.row_ids,
            col_ids=ids,
            need_a=need_a,
            need_b=need_b,
            precision=ring.precision,
            backend=ring.backend,
        )
        sums += torch.stack([loss, dscale, dbias])
        if part_a is not None:
            da = part_a if da is None else da.add_(part_a)
        if part_b is not None:
            follower.add(ring.padded_all([part_b]))
    db = ring.cut(follower.home(), ring.wire.rank)[0] if need_b else None
    return sums[0], da, db, sums[1], sums[2]


def merge_sides(held: list[Tensor], part: list[Tensor]) -> list[Tensor]:
    """Statistics of the same rows over two sets of columns, as they travel."""
    merged = _pairs.merge(Side(*held), Side(*part))
    return [merged.max, merged.sum, merged.pos]


def add_sums(held: list[Tensor], part: list[Tensor]) -> list[Tensor]:
    """Gradients of the same rows from two ranks, as they travel."""
    return [x.add_(y) for x, y in zip(held, part, strict=True)]
