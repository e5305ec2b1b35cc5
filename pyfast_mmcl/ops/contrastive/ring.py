"""Contrastive losses of a batch that is spread over processes, without gathering it.

Every rank holds its own rows. Blocks of columns go round a ring of the processes (torch.distributed: gloo or NCCL),
their statistics and gradients go with them; memory and traffic per rank stay O(rows of a rank × D). The value is that
of one process with all rows, and the same on every rank.

Gradients. Every rank gets the gradient of the *global* loss for its own rows, all of it and once: the one-process
gradient is the concatenation of the ranks'. A scale or bias that all ranks hold gets the same on every rank, its W-th
part, W being the number of ranks: the sum over ranks is the one-process gradient. DistributedDataParallel averages the
gradients of parameters over ranks, so multiply the loss by W, ``(loss * W).backward()``: parameters then get the
gradient of the global loss, and so does a scale that DDP does not know. The upstream gradient must be the same on every
rank, and every rank must run backward where one does.

Every call begins with one small message that all ranks exchange (a GPU waits for it): what differs where it must not
(features, dtype, scale, options) is an InputError on every rank. A rank that dies later leaves the others waiting until
the time-out of the process group. On the CPU gloo moves the next block while this one is worked on; gloo carries no GPU
memory, NCCL does. Under torch.compile the ring runs outside the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..._errors import InputError
from . import _inputs as inputs
from ._ring_agree import Shares, agree
from ._ring_autograd import RingRows, RingSelf, RingSigLIP, Sides, SumOverRanks
from ._ring_inputs import Options, Own, read_pair, read_rows, read_weights
from ._ring_passes import Ring
from ._ring_wire import Wire, pad
from .info_nce import share


@torch.compiler.disable
def info_nce_ring(
    a: Any,
    b: Any,
    scale: Any,
    *,
    process_group: dist.ProcessGroup,
    direction: str = "both",
    labels: Any = None,
    weights: Any = None,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    gradient_factor: float = 1.0,
    scale_gradient: str = "mean",
) -> Any:
    """`info_nce` of the rows of all ranks; there stand the loss and every argument that is not named here.

    Args:
        a, b: this rank's rows [N, D] and [M, D]; N and M may differ between ranks and may be 0.
        process_group: the ranks that take part, such as torch.distributed.group.WORLD.
        labels, weights: of this rank's rows; equal labels are positives across ranks too.
        reduction: "mean" and "sum" over all ranks (the same value everywhere); "none": the losses of this rank's rows.
        gradient_factor: multiplies the gradients of "mean" and "sum" but not the value; the number of ranks makes
            DDP's average a sum.
        scale_gradient: each rank's rows give a part of it; "mean" or "sum" of the parts on every rank (one number
            travels), or "share", the own part.

    Raises:
        InputError: as `info_nce`, and where the ranks disagree; on every rank.
    """
    options = Options(reduction, precision, backend, gradient_factor, scale_gradient)
    wire = Wire(process_group)
    own, shares = agree(wire, "info_nce", lambda: _read_info_nce(a, b, scale, direction, labels, weights, options))
    sides, counts = _two_sides(wire, own, shares, direction, options)
    losses = RingRows.apply("info_nce", own.a, own.b, own.scale, sides)
    return inputs.give_back(_reduce(sides.ring, own, losses, counts, options), a)


@torch.compiler.disable
def info_nce_rows_ring(
    a: Tensor,
    b: Tensor,
    scale: Any,
    *,
    process_group: dist.ProcessGroup,
    direction: str = "both",
    precision: str = "auto",
    backend: str = "auto",
    scale_gradient: str = "mean",
) -> tuple[Tensor | None, Tensor | None]:
    """Losses of this rank's rows [N] and columns [N] over all ranks, float64, for reductions of one's own.

    Row i belongs to column i. The gradient is that of Σ_ranks ⟨upstream gradient of the rank, its losses⟩, whatever
    the upstream gradients are. Arguments as `info_nce_ring`; a direction that was not asked for gives None.
    """
    options = Options("none", precision, backend, 1.0, scale_gradient)
    wire = Wire(process_group)
    own, shares = agree(wire, "info_nce_rows", lambda: _read_info_nce(a, b, scale, direction, None, None, options))
    sides, _ = _two_sides(wire, own, shares, direction, options)
    return RingRows.apply("info_nce", own.a, own.b, own.scale, sides)


@torch.compiler.disable
def nt_xent_ring(
    z: Any,
    scale: Any,
    *,
    process_group: dist.ProcessGroup,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    gradient_factor: float = 1.0,
    scale_gradient: str = "mean",
) -> Any:
    """`nt_xent` of the rows of all ranks: z [2N, D] holds both views of this rank's N examples, rows i and i + N.

    Other arguments, gradients and errors as `info_nce_ring`. Every pair of ranks is met once, in half a turn of the
    ring; only with an even number of ranks do the two that face each other both work on their pair.
    """
    options = Options(reduction, precision, backend, gradient_factor, scale_gradient)
    wire = Wire(process_group)
    own, shares = agree(wire, "nt_xent", lambda: read_rows(z, scale, None, True, options))
    n, first = own.a.shape[0] // 2, shares.row_offset(wire.rank) // 2
    ids = torch.arange(first, first + n, device=own.a.device).repeat(2)
    return inputs.give_back(_among_rows("nt_xent", wire, own, shares, ids, None, options), z)


@torch.compiler.disable
def sup_con_ring(
    z: Any,
    labels: Any,
    scale: Any,
    *,
    process_group: dist.ProcessGroup,
    weights: Any = None,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    gradient_factor: float = 1.0,
    scale_gradient: str = "mean",
) -> Any:
    """`sup_con` of the rows of all ranks: z [N, D], labels [N] and weights [N] are this rank's.

    Other arguments, gradients and errors as `info_nce_ring`; traffic as `nt_xent_ring`.
    """
    options = Options(reduction, precision, backend, gradient_factor, scale_gradient)
    wire = Wire(process_group)

    def read() -> Own:
        own = read_rows(z, scale, labels, False, options)
        read_weights(own, weights, "ab")
        return own

    own, shares = agree(wire, "sup_con", read)
    ids, _ = own.labels or _own_ids(own, wire, shares)
    counts = inputs.count_positives(ids, _all_ids(wire, ids, shares.rows)) - 1
    return inputs.give_back(_among_rows("sup_con", wire, own, shares, ids, counts, options), z)


@torch.compiler.disable
def siglip_ring(
    a: Any,
    b: Any,
    scale: Any,
    bias: Any,
    *,
    process_group: dist.ProcessGroup,
    labels: Any = None,
    reduction: str = "mean",
    precision: str = "auto",
    backend: str = "auto",
    gradient_factor: float = 1.0,
    scale_gradient: str = "mean",
) -> Any:
    """`siglip` of the rows of all ranks: a [N, D], b [M, D] and labels are this rank's.

    reduction: "mean" divides by the rows of a on all ranks; "sum"; "own": this rank's rows of a against all of b,
    divided by their number, which all ranks have alike; the gradient is then that of the sum of these values.
    Other arguments, gradients and errors as `info_nce_ring`; the bias is treated like the scale.
    """
    options = Options(reduction, precision, backend, gradient_factor, scale_gradient, ("mean", "sum", "own"))
    wire = Wire(process_group)
    own, shares = agree(wire, "siglip", lambda: read_pair(a, b, scale, bias, labels, options))
    if reduction == "own" and len(set(shares.rows)) > 1:
        raise InputError(
            f'reduction="own": expected as many rows of a on every rank, got {shares.rows}; use "mean" or "sum".'
        )
    row_ids, col_ids = own.labels or _own_ids(own, wire, shares)
    ring = Ring(wire, shares, row_ids, col_ids, False, own.precision, backend)
    value = RingSigLIP.apply(own.a, own.b, own.scale, own.bias, ring, scale_gradient)
    if reduction == "own":
        value = value / max(own.a.shape[0], 1)
    else:
        value = SumOverRanks.apply(value, ring, gradient_factor)
        value = value / max(sum(shares.rows), 1) if reduction == "mean" else value
    return inputs.give_back(value.to(_result(own.a)), a)


def _read_info_nce(a: Any, b: Any, scale: Any, direction: str, labels: Any, weights: Any, options: Options) -> Own:
    inputs.check_word("direction", direction, inputs.DIRECTIONS)
    own = read_pair(a, b, scale, 0.0, labels, options, direction=direction)
    read_weights(own, weights, direction)
    if options.reduction == "none" and direction == "both" and own.a.shape[0] != own.b.shape[0]:
        raise InputError(
            f'reduction="none": expected as many rows in a as in b for both directions, got {own.a.shape[0]} and '
            f'{own.b.shape[0]}; use "ab" or "ba".'
        )
    return own


def _own_ids(own: Own, wire: Wire, shares: Shares) -> tuple[Tensor, Tensor]:
    """Places of the own rows and columns among all: row i belongs to column i."""
    first, n = shares.row_offset(wire.rank), own.a.shape[0]
    ids = torch.arange(first, first + n, device=own.a.device)
    return ids, ids


def _all_ids(wire: Wire, ids: Tensor, sizes: Sequence[int]) -> Tensor:
    """Labels of all ranks: one integer per row is all that is ever gathered."""
    parts = wire.gather(pad(ids, max(1, *sizes)))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _two_sides(
    wire: Wire, own: Own, shares: Shares, direction: str, options: Options
) -> tuple[Sides, tuple[Tensor | None, Tensor | None]]:
    """The sides of `info_nce` and |P(i)| of the rows and columns, None where each has one."""
    row_counts = col_counts = None
    if own.labels is None:
        row_ids, col_ids = _own_ids(own, wire, shares)
    else:
        row_ids, col_ids = own.labels
        row_counts = inputs.count_positives(row_ids, _all_ids(wire, col_ids, shares.cols))
        col_counts = inputs.count_positives(col_ids, _all_ids(wire, row_ids, shares.rows))
    ring = Ring(wire, shares, row_ids, col_ids, False, own.precision, options.backend)
    rows, cols = direction != "ba", direction != "ab"
    sides = Sides(ring, rows, cols, share(row_counts), share(col_counts), options.scale_gradient)
    return sides, (row_counts, col_counts)


def _among_rows(
    op: str, wire: Wire, own: Own, shares: Shares, ids: Tensor, counts: Tensor | None, options: Options
) -> Tensor:
    """Rows compared among themselves, each left out of its own sum."""
    ring = Ring(wire, shares, ids, ids, True, own.precision, options.backend)
    sides = Sides(ring, True, False, share(counts), None, options.scale_gradient)
    losses = RingSelf.apply(op, own.a, own.scale, sides)
    return _reduce(ring, own, (losses, None), (counts, None), options)


def _reduce(
    ring: Ring,
    own: Own,
    losses: Sequence[Tensor | None],
    counts: Sequence[Tensor | None],
    options: Options,
) -> Tensor:
    """Half the rows' and half the columns' reduction, or all of the one there is, as `info_nce` defines them."""
    weighted, weights = [], []
    for loss, count, given in zip(losses, counts, own.weights, strict=True):
        if loss is not None:
            w = torch.ones_like(loss) if given is None else given
            weights.append(w if count is None else w * (count > 0))
            weighted.append(loss * weights[-1])
    half = 1 / len(weighted)
    if options.reduction == "none":
        return (sum(weighted[1:], weighted[0]) * half).to(_result(own.a))
    sums = torch.stack([x.sum() for x in (*weighted, *weights)])
    values, totals = SumOverRanks.apply(sums, ring, options.gradient_factor).chunk(2)
    if options.reduction == "mean":
        values = values / torch.where(totals == 0, 1.0, totals)
    return (values.sum() * half).to(_result(own.a))


def _result(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
