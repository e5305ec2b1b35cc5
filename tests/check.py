"""Numeric asserts: errors are compared, not values; an index may differ only where float64 sees a tie."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

SIZES = (0, 1, 15, 16, 17, 63, 64, 65, 97, 127, 128, 129)


def _float64(x: torch.Tensor | np.ndarray) -> torch.Tensor:
    return torch.as_tensor(x).detach().to("cpu", torch.float64)


def assert_no_worse(ours, plain, truth, *, atol: float, factor: float = 2.0) -> None:
    """Largest error of ``ours`` ≤ factor × largest error of ``plain`` + atol, both against the float64 ``truth``.

    ``plain`` is the obvious computation in the precision under test. NaN and ±inf must stand where the truth has them.
    """
    ours, plain, truth = _float64(ours), _float64(plain), _float64(truth)
    assert ours.shape == truth.shape, f"expected shape {list(truth.shape)}, got {list(ours.shape)}"
    finite = truth.isfinite()
    special = torch.where(finite, torch.zeros_like(truth), truth)
    ours_special = torch.where(finite, torch.zeros_like(ours), ours)
    assert torch.equal(ours_special.nan_to_num(nan=7.0), special.nan_to_num(nan=7.0)), "NaN or inf in other places"
    if not finite.any():
        return
    error = (ours - truth)[finite].abs()
    budget = factor * (plain - truth)[finite].abs().nan_to_num(nan=0.0, posinf=0.0).max() + atol
    worst = int(error.nan_to_num(nan=float("inf")).argmax())
    assert error.isfinite().all() and error.max() <= budget, (
        f"error {error.max():.3e} at element {worst} of the finite ones exceeds the budget {budget:.3e}"
    )


def assert_neighbours(indices, scores, k: int, *, descending: bool = False, atol: float = 0.0) -> None:
    """``indices [N, k]`` rank ``scores [N, M]`` (float64): best first, ties by smaller index, NaN last, −1 past M.

    ``atol`` widens what counts as a tie to the rounding of the float64 scores themselves; 0 demands the exact order.
    """
    indices, scores = torch.as_tensor(indices).cpu(), _float64(scores)
    rows, columns = scores.shape
    assert list(indices.shape) == [rows, k], f"expected indices [{rows}, {k}], got {list(indices.shape)}"
    cost = torch.where(scores.isnan(), torch.full_like(scores, float("inf")), -scores if descending else scores)
    # a NaN row comes after an infinite one, so that two stable sorts give the whole order
    order = cost.argsort(dim=1, stable=True)
    order = order.gather(1, scores.isnan().gather(1, order).to(torch.int8).argsort(dim=1, stable=True))
    expected = torch.full((rows, k), -1, dtype=torch.int64)
    kept = min(k, columns)
    expected[:, :kept] = order[:, :kept]
    assert torch.equal(indices[:, kept:], expected[:, kept:]), "places past M must hold -1"
    ours = indices[:, :kept]
    assert bool(((ours >= 0) & (ours < columns)).all()), "an index lies outside the database"
    assert all(row.unique().numel() == kept for row in ours), "a neighbour is listed twice"
    if torch.equal(ours, expected[:, :kept]):
        return
    gap = cost.gather(1, ours) - cost.gather(1, expected[:, :kept])
    gap = torch.where(ours == expected[:, :kept], torch.zeros_like(gap), gap).abs().nan_to_num(nan=float("inf"))
    wrong = (ours != expected[:, :kept]) & ((gap > atol) | (gap == 0))
    if atol == 0 or bool(wrong.any()):
        row, place = map(int, torch.nonzero(wrong if wrong.any() else ours != expected[:, :kept])[0])
        raise AssertionError(
            f"row {row}, place {place}: expected index {int(expected[row, place])}, got {int(ours[row, place])}; "
            f"their float64 scores differ by {gap[row, place]:.3e}, allowed {atol:.3e} (an exact tie: smaller index)"
        )


def assert_same_bits(a, b) -> None:
    """Equal shape, dtype and bytes: NaN equals the same NaN, −0.0 differs from 0.0."""
    a, b = (x.detach().cpu().contiguous() if isinstance(x, torch.Tensor) else torch.as_tensor(x) for x in (a, b))
    assert (a.shape, a.dtype) == (b.shape, b.dtype), f"{list(a.shape)} {a.dtype} against {list(b.shape)} {b.dtype}"
    different = a.reshape(-1).view(torch.uint8) != b.reshape(-1).view(torch.uint8)
    assert not different.any(), f"{int(different.sum())} of {different.numel()} bytes differ"


def assert_same_partition(a, b) -> None:
    """The same grouping of rows, whatever the labels are called."""
    a, b = np.asarray(torch.as_tensor(a).cpu()), np.asarray(torch.as_tensor(b).cpu())
    assert a.shape == b.shape, f"{a.shape} labels against {b.shape}"
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    groups = (len(set(a.tolist())), len(set(b.tolist())))
    assert groups == (len(pairs), len(pairs)), f"{groups[0]} and {groups[1]} groups meet in {len(pairs)} pairs"


@contextmanager
def raises_sentence(error: type[Exception], *words: str) -> Iterator[pytest.ExceptionInfo]:
    """The error is one line for its reader and names every one of ``words``."""
    with pytest.raises(error) as caught:
        yield caught
    text = str(caught.value)
    assert text and "\n" not in text, f"expected one sentence, got {text!r}"
    missing = [word for word in words if word not in text]
    assert not missing, f"{text!r} does not mention {missing}"


def layouts(x: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The matrix ``x [N, D]`` in three memory layouts: contiguous, a slice of something wider, transposed storage."""
    yield "contiguous", x.contiguous()
    wider = torch.full((x.shape[0], x.shape[1] + 3), 7, dtype=x.dtype, device=x.device)
    wider[:, 1:-2] = x
    yield "sliced", wider[:, 1:-2]
    yield "transposed", x.t().contiguous().t()
