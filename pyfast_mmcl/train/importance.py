"""How much every parameter matters for a task: the measures that more than one method starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, number_above_zero, unknown_name, whole_number
from pyfast_mmcl.ops.fisher import fisher_diagonal, pair_losses
from pyfast_mmcl.ops.sampling import fold_seed
from pyfast_mmcl.train.modes import evaluation_mode
from pyfast_mmcl.train.pairs import pair_scale, two_sides
from pyfast_mmcl.train.quadratic import scalar

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader
    from pyfast_mmcl.train.learner import Learner

Forward = Callable[[nn.Module, "Batch"], tuple[Any, Tensor]]

LABELS = ("auto", "exact", "sampled", "empirical", "batch")
# A task-incremental head masks with the lowest number of its precision, bfloat16 or float32.
_MASKED = torch.finfo(torch.bfloat16).min
# The exact Fisher takes one backward pass per class.
_EXACT_UP_TO = 128


def check_labels(labels: str) -> str:
    """``labels`` when it names an estimator. Raises UnknownNameError."""
    if labels not in LABELS:
        raise unknown_name("choice of labels for the Fisher", labels, LABELS)
    return labels


def check_samples(samples: int | None) -> int | None:
    """``samples`` when it is a number of rows or None. Raises InputError."""
    return None if samples is None else whole_number("samples", samples)


def check_estimator(labels: str, samples: int | None, clamp: float | None) -> dict[str, Any]:
    """The arguments of ``fisher``, checked before a task has been trained for them.

    Raises UnknownNameError or InputError.
    """
    limit = None if clamp is None else number_above_zero("clamp", scalar(clamp))
    return {"labels": check_labels(labels), "samples": check_samples(samples), "clamp": limit}


def fisher(
    learner: Learner, loader: Loader, *, labels: str = "auto", samples: int | None = None, clamp: float | None = None
) -> dict[str, Tensor]:
    """F_i = (1/N) Σ_n E_y[(∂ log p(y | x_n) / ∂θ_i)²] over the rows of ``loader``, for every trainable parameter.

    labels   whose expectation over y: "exact" all classes weighted by p(y | x_n); "sampled" one y drawn from it;
             "empirical" the label of the row; "batch" the square of the gradient of a batch's mean loss, which is no
             Fisher and about a batch size smaller, kept to compare with other implementations; "auto" is "exact" for
             up to 128 classes and "sampled" above, as van de Ven (arXiv:2502.11756) advises
    samples  rows to use, drawn without replacement (default: all)
    clamp    largest value kept (default: none; 1e-4 in PyCIL)

    Where pairs are learnt a sample is a pair and p that of its partner among the pairs of its batch (``pair_losses``),
    so labels is "auto" or "empirical". The model is in evaluation mode meanwhile.
    """
    if learner.objective == "pairs":
        values = _pair_fisher(learner, loader, samples, labels)
        return values if clamp is None else {name: value.clamp(max=clamp) for name, value in values.items()}

    def forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        return learner.forward(batch).scores, batch.target

    values = _measure(learner, loader, samples, forward, labels=labels)
    return values if clamp is None else {name: value.clamp(max=clamp) for name, value in values.items()}


def output_sensitivity(learner: Learner, loader: Loader, *, samples: int | None = None) -> dict[str, Tensor]:
    """Ω_i = (1/N) Σ_n |∂ ‖scores_n‖² / ∂θ_i| over the rows of ``loader``; no labels are used.

    The scores of other tasks' classes, which a task-incremental head masks, count as 0; generated answers [B, S, C]
    count by the mean over positions. samples: as in ``fisher``.

    Reference: Aljundi et al., ECCV 2018, equations 2 and 5.
    """

    def forward(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        scores = learner.forward(batch).scores
        scores = scores.masked_fill(scores <= _MASKED, 0.0)
        positions = scores[0:1].flatten(0, -2).shape[0] if len(scores) else 1
        return scores / positions**0.5, batch.target

    return _measure(learner, loader, samples, forward, output="norm2", absolute=True)


def _pair_fisher(learner: Learner, loader: Loader, samples: int | None, labels: str) -> dict[str, Tensor]:
    if labels not in ("auto", "empirical"):
        raise InputError(f"labels: where pairs are learnt, expected 'auto' or 'empirical', got {labels!r}.")

    def forward(model: nn.Module, batch: Batch) -> tuple[Any, Tensor]:
        v, t = two_sides(learner.forward(batch))
        return (v, t, pair_scale(learner.model)), batch.target

    def loss(outputs: Any, target: Tensor) -> Tensor:
        return pair_losses(*outputs)

    return _measure(learner, loader, samples, forward, labels="empirical", loss=loss)


def _measure(learner: Learner, loader: Loader, samples: int | None, forward: Forward, **how: Any) -> dict[str, Tensor]:
    seed = fold_seed(learner.seed, learner.task.id)
    with evaluation_mode(learner.model):
        if how.get("labels") == "auto":
            how["labels"] = _affordable(learner, loader)
        return fisher_diagonal(learner.model, _rows(learner, loader, samples), forward=forward, seed=seed, **how)


def _rows(learner: Learner, loader: Loader, samples: int | None) -> Iterator[Batch]:
    """The batches of ``loader`` on the learner's device, thinned to ``samples`` rows drawn at random."""
    keep = torch.ones(loader.n_rows, dtype=torch.bool)
    if samples is not None and whole_number("samples", samples) < loader.n_rows:
        drawn = torch.randperm(loader.n_rows, generator=learner.generator)[samples:]
        keep[drawn] = False
    start = 0
    for batch in loader:
        kept = keep[start : start + len(batch)]
        start += len(batch)
        if learner.objective == "pairs":
            kept = kept & torch.stack(list(batch.present.values())).all(0)
        if bool(kept.any()):
            yield (batch if bool(kept.all()) else batch.select(kept)).to(learner.device)


def _affordable(learner: Learner, loader: Loader) -> str:
    # Two rows: layers that would mix them are refused later by name, while torch itself refuses a single one.
    with torch.no_grad():
        scores = learner.forward(loader[0].select(slice(0, 2)).to(learner.device)).scores
    return "exact" if scores.ndim == 2 and scores.shape[1] <= _EXACT_UP_TO else "sampled"
