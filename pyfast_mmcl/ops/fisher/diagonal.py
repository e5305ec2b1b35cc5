"""`fisher_diagonal`: the diagonal of the Fisher information from true per-sample gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..._errors import InputError, whole_number
from .accumulate import SquareSums
from .engine import Engine, Forward, choose_params, refuse_batch_statistics
from .mean_square import mean_squares
from .objective import Loss, check_choice, cross_entropy, norm2, seeds
from .probe import PAIR, probe
from .rows import count_rows, run_model, sample_ids, take_rows


def fisher_diagonal(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    labels: str = "empirical",
    loss: Loss | None = None,
    params: Iterable[str | Tensor] | None = None,
    seed: int = 0,
    max_samples: int | None = None,
    absolute: bool = False,
    output: str | None = None,
    forward: Forward | None = None,
    backend: str = "auto",
    process_group: Any = None,
) -> dict[str, Tensor]:
    """Mean over samples of the squared gradient of each sample's own loss, for every parameter.

    ``F[p] = mean_b(grad(loss_b, p) ** 2)``; one forward and one backward pass per batch, without weight gradients,
    and no [B, P] tensor.

    Args:
        model: any module; put it into eval mode first, it is left as it is (dropout: the gradient at the masks drawn).
            Parameters may be tied, reused, sliced or computed from; a function without closed form falls back to vmap
            for itself alone, with a warning.
        batches: pairs (inputs, target), or objects with ``inputs``, ``target`` and ``select(rows)``; with ``forward``
            any tuples, lists, dicts or dataclasses of tensors [B, …]. Three samples of the first batch run a few times
            more: to find where samples lie in every tensor, to compare one gradient with plain autograd's, and their
            outputs with those among the whole batch. Batches whose rows are picked by a mask are sent back twice.
        labels: "empirical": the loss at the given target; "sampled": one y ~ p(y|x) per sample; "exact":
            ``sum_c p_c * grad(log p_c)**2``, C backward passes; "batch": square of the batch-mean gradient, averaged
            over batches: not the Fisher, for comparison with other packages only.
        loss: (outputs, target) → loss of every sample [B]. Default: cross-entropy of logits [B, C], or of [B, S, C]
            summed over the S positions of a sample. See `pair_losses` for contrastive models.
        params: names (or tensors) of the wanted parameters; default: all that require a gradient.
        seed: of the sampled labels; the draw of a sample depends on the seed and its id (``batch.index``, else its
            place in the stream), not on batch size or number of processes.
        max_samples: stop after so many samples (of this process).
        absolute: ``mean_b(abs(grad))`` in place of the square, as MAS wants it.
        output: "norm2" takes ``(outputs ** 2).sum()`` of each sample as its loss, label-free.
        forward: (model, batch) → (outputs, target), for batches of another make.
        backend: of `outer_square_accumulate`: "auto" | "torch" | "native" | "triton".
        process_group: torch.distributed group whose processes hold shares of the samples; all get the common result.

    Returns:
        {name: F of the parameter's shape}, float32 (float64 for float64 parameters), named as model.named_parameters().

    Raises:
        InputError: samples that depend on each other (batch statistics, in-batch contrastive losses, data centred over
            the batch), layers that cannot be followed (compiled, scripted, checkpointed, an autograd.Function of
            parameters), a loss that is not one value per sample, no samples, unknown words.
        BackendError: the backend asked for by name cannot run.

    Reference: van de Ven, On the computation of the Fisher information in continual learning, arXiv 2502.11756;
    MAS: Aljundi et al., ECCV 2018.
    """
    check_choice(labels, output, loss)
    limit = None if max_samples is None else whole_number("max_samples", max_samples)
    chosen = choose_params(model, params)
    refuse_batch_statistics(model)
    objective = norm2 if output == "norm2" else loss or cross_entropy
    stream, run = limited(batches, limit), forward or run_model
    if labels == "batch":
        totals, count = mean_squares(model, stream, chosen, run, objective, absolute)
    else:
        draws = Draws(labels, objective, seed, process_group)
        sums = SquareSums(chosen, absolute, backend)
        count = collect(Engine(model, chosen, run, draws), stream, sums, draws)
        totals = sums.totals
    return _mean(totals, count, process_group)


class Draws:
    """The seeds of the backward passes of each batch; remembers how many samples went by."""

    def __init__(self, labels: str, objective: Loss, seed: int, process_group: Any) -> None:
        self.seen, self.own_loss = 0, objective not in (cross_entropy, norm2)
        self._labels, self._objective, self._seed = labels, objective, seed
        self._rank = 0 if process_group is None else dist.get_rank(process_group)
        self._world = 1 if process_group is None else dist.get_world_size(process_group)

    def __call__(self, outputs: Any, target: Any, batch: Any) -> Iterator[tuple[Tensor, Tensor]]:
        def ids(samples: int) -> Tensor:
            return sample_ids(batch, samples, self.seen, self._rank, self._world)

        return seeds(self._labels, self._objective, outputs, target, ids, self._seed)


def collect(engine: Engine, batches: Iterable[Any], collector: Any, draws: Draws) -> int:
    """Run all batches, probing the first; returns the number of samples."""
    proved = False
    for i, batch in enumerate(batches):
        if i == 0 or not proved:
            probe(engine, batch)
            # fewer samples cannot show that they do not mix
            proved = (count_rows(batch) or 0) > PAIR
        draws.seen += engine.run(batch, collector)
    return draws.seen


def limited(batches: Iterable[Any], limit: int | None) -> Iterator[Any]:
    """The batches up to ``limit`` samples; the last one is cut. Empty batches are left out."""
    seen = 0
    for batch in batches:
        samples = count_rows(batch)
        if samples == 0:
            continue
        if limit is None:
            yield batch
            continue
        if samples is None:
            raise InputError("max_samples: the rows of these batches cannot be counted; cut the stream itself.")
        if seen >= limit:
            return
        yield batch if seen + samples <= limit else take_rows(batch, list(range(limit - seen)))
        seen += samples


def _mean(totals: dict[str, Tensor], count: int, process_group: Any) -> dict[str, Tensor]:
    if process_group is not None:
        number = torch.tensor(count, dtype=torch.int64, device=next(iter(totals.values())).device)
        for x in (number, *totals.values()):
            dist.all_reduce(x, group=process_group)
        count = int(number)
    if count == 0:
        raise InputError("batches: expected at least one sample, got none; an exhausted iterator cannot be read again.")
    return {name: total.div_(count) for name, total in totals.items()}
