"""What the contrastive ops accept: rows, labels, weights, scales; checks cost no pass over the data."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ..._errors import InputError, unknown_name
from ..knn._checks import FLOATS, as_tensor
from ._packed import PackedReference

PRECISIONS = ("auto", "float32", "bfloat16")
DIRECTIONS = ("both", "ab", "ba")


def rows_of(x: Any, name: str) -> Tensor:
    """``x`` as a floating tensor [rows, features] that keeps its graph; a packed reference gives its rows."""
    if isinstance(x, PackedReference):
        return x.rows
    if not isinstance(x, Tensor) or x.layout != torch.strided or x.is_nested:
        x = as_tensor(x, name)
    if x.ndim != 2 or x.shape[1] < 1:
        raise InputError(f"{name}: expected shape [rows, features], got {list(x.shape)}.")
    if x.dtype not in FLOATS:
        raise InputError(
            f"{name}: expected float32, float16, bfloat16 or float64, got {x.dtype}; convert with .float()."
        )
    _check_plain(x, name)
    return x.resolve_neg()  # the compiled kernels read memory, where a pending sign is not


def _check_plain(x: Tensor, name: str) -> None:
    # Under torch.func a tensor has no memory to read, and a tangent would be lost without a word.
    if torch.compiler.is_compiling():
        return
    if torch._C._functorch.is_functorch_wrapped_tensor(x) or unpack_dual(x).tangent is not None:
        raise InputError(
            f"{name}: expected a plain tensor, got one of torch.func (vmap, grad, jvp) or forward-mode derivatives; "
            "use torch.autograd.grad, or pyfast_mmcl.ops.contrastive.reference, the same values in plain torch."
        )


def pair_of(a: Any, b: Any, names: tuple[str, str] = ("a", "b")) -> tuple[Tensor, Tensor]:
    """Both sides as rows of one device, width and float type (lower precisions meet in float32)."""
    x, y = rows_of(a, names[0]), rows_of(b, names[1])
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"{names[0]} and {names[1]}: expected the same number of features, got {x.shape[1]} and {y.shape[1]}."
        )
    same_home(x, y, names)
    if x.dtype != y.dtype:
        x, y = x.float(), y.float()
    return x, y


def same_home(x: Tensor, y: Tensor, names: tuple[str, str]) -> None:
    """One device, and float64 only together with float64."""
    if x.device != y.device:
        raise InputError(f"{names[0]} is on {x.device} and {names[1]} on {y.device}; move one with .to(device).")
    if x.dtype != y.dtype and torch.float64 in (x.dtype, y.dtype):
        raise InputError(f"{names[0]} is {x.dtype} and {names[1]} {y.dtype}; convert both to one of them.")


def check_precision(precision: str, x: Tensor) -> None:
    """One of the three words; float64 rows have no lower precision."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision != "auto" and x.dtype == torch.float64:
        raise InputError(f'precision: expected "auto" for float64 rows, got "{precision}"; convert them with .float().')


def precision_of(precision: str, x: Tensor, *others: Any) -> str:
    """The checked word; "auto" becomes that of the packed references where they agree on bfloat16."""
    check_precision(precision, x)
    packed = [y.precision for y in others if isinstance(y, PackedReference)]
    return "bfloat16" if precision == "auto" and packed and set(packed) == {"bfloat16"} else precision


def check_word(kind: str, word: str, known: tuple[str, ...]) -> None:
    """``word`` is one of ``known``; an unknown one lists the nearest."""
    if word not in known:
        raise unknown_name(kind, word, known)


def scalar(x: Any, name: str) -> Any:
    """A float, or the tensor of one element that carries a gradient."""
    if isinstance(x, Tensor):
        if x.numel() != 1 or not x.is_floating_point():
            raise InputError(f"{name}: expected a number or a tensor of one, got {x.dtype} of shape {list(x.shape)}.")
        _check_plain(x, name)
        return x
    if isinstance(x, bool) or not isinstance(x, numbers.Real):
        raise InputError(f"{name}: expected a number or a 0-d tensor, got {x!r}.")
    return float(x)


def number(x: Any) -> Any:
    """``x`` as the primitives take it: a float where that costs no waiting, else a 0-d tensor."""
    if isinstance(x, Tensor):
        return x.item() if x.device.type == "cpu" else x.detach().reshape(())
    return x


def as_scalar_tensor(x: Any, like: Tensor) -> Tensor:
    """``x`` as a tensor for an operator that torch.compile sees."""
    return x if isinstance(x, Tensor) else torch.full((), x, dtype=torch.float64, device=like.device)


def own_ids(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row i is positive with column i alone, so that there must be as many."""
    if n != m:
        raise InputError(
            f"a and b: expected the same number of rows without labels, got {n} and {m}; "
            "name the positives with labels=(labels_a, labels_b)."
        )
    ids = torch.arange(n, device=device)
    return ids, ids


def labels_of(labels: Any, n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Labels of both sides, int64 [N] and [M], from one sequence (N = M) or a pair of them."""
    if isinstance(labels, tuple) and len(labels) == 2 and not isinstance(labels[0], numbers.Integral):
        return integers(labels[0], "labels[0]", n, device), integers(labels[1], "labels[1]", m, device)
    if n != m:
        raise InputError(
            f"labels: {n} rows against {m} need a pair (labels_a [{n}], labels_b [{m}]), got one sequence."
        )
    ids = integers(labels, "labels", n, device)
    return ids, ids


def integers(x: Any, name: str, n: int, device: torch.device) -> Tensor:
    """``x`` as int64 [N] on ``device``; numbers with a fraction are a mistake."""
    x = _numbers(x, name, n, "integers")
    if x.is_floating_point() or x.is_complex() or x.ndim != 1 or x.shape[0] != n:
        raise InputError(f"{name}: expected integers of shape [{n}], got {x.dtype} of shape {list(x.shape)}.")
    return x.detach().to(device=device, dtype=torch.int64)


def _numbers(x: Any, name: str, n: int, what: str) -> Tensor:
    if isinstance(x, Tensor):
        return x
    array = np.array(x)  # a copy: backward reads it again
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected {what} of shape [{n}], got {type(x).__name__} of dtype {array.dtype}.")
    return torch.as_tensor(array, device="cpu")


def weights_of(weights: Any, name: str, n: int, device: torch.device) -> Tensor:
    """Weights float64 [N]; they are constants."""
    w = _numbers(weights, name, n, "numbers")
    if w.is_complex() or w.ndim != 1 or w.shape[0] != n:
        raise InputError(f"{name}: expected numbers of shape [{n}], got {w.dtype} of shape {list(w.shape)}.")
    if w.requires_grad:
        raise InputError(f'{name}: no gradient is computed for weights; pass .detach(), or use reduction="none".')
    return w.to(device=device, dtype=torch.float64)


def count_positives(row_ids: Tensor, col_ids: Tensor) -> Tensor:
    """|{j: col_ids[j] = row_ids[i]}| int64 [N], without the matrix of pairs."""
    ordered = col_ids.sort().values
    return torch.searchsorted(ordered, row_ids, right=True) - torch.searchsorted(ordered, row_ids)


def give_back(value: Tensor, asked: Any) -> Any:
    """``value`` as the kind that came in: a tensor, or for NumPy input a float or an array."""
    if isinstance(asked, Tensor):
        return value
    if value.requires_grad:
        raise InputError("NumPy rows carry no gradient, but another argument requires one; pass torch tensors.")
    return value.numpy() if value.ndim else float(value)
