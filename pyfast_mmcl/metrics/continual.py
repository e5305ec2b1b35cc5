"""Measures of continual learning, each definition in use under its own name.

A [T, T] is the accuracy matrix: A[i, j] is the score on task j after training on task i (counted from 0), in any unit.
Entries above the diagonal are scores on tasks not trained yet. Papers use one word for several of these measures and
the values differ, so every name says which one it is. Measures that need a second task are NaN for T = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from pyfast_mmcl._errors import InputError


def accuracy(answers: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of rows whose best score is the target, over pairs of scores [B, C] and targets [B].

    With scores [B, S, C] and targets [B, S] a row counts when all its S positions are right. A row with NaN among its
    scores is wrong. Raises InputError for
    no rows at all.
    """
    right = rows = 0
    for scores, target in answers:
        if scores.shape[:-1] != target.shape:
            raise InputError(f"accuracy: scores {tuple(scores.shape)} do not fit targets {tuple(target.shape)}.")
        # argmax takes NaN for the best.
        hits = (scores.argmax(-1) == target) & ~scores.isnan().any(-1)
        right += int(hits.flatten(1).all(1).sum() if hits.ndim > 1 else hits.sum())
        rows += len(target)
    if rows == 0:
        raise InputError("accuracy: expected at least one row, got none.")
    return right / rows


def last_accuracy(matrix: ArrayLike) -> float:
    """mean_j A[T−1, j]: mean over tasks after the last one ("Last" of MTIL)."""
    return float(_checked(matrix)[-1].mean())


def pooled_last_accuracy(matrix: ArrayLike, sizes: Sequence[int]) -> float:
    """sum_j n_j A[T−1, j] / sum_j n_j: mean over test examples, as PyCIL and PILOT report it. sizes [T]: n_j."""
    A, weights = _checked(matrix), np.asarray(sizes, dtype=float)
    if weights.shape != (len(A),) or not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
        raise InputError(f"sizes: expected {len(A)} counts of test examples, got {sizes!r}.")
    return float(A[-1] @ weights / weights.sum())


def average_incremental_accuracy(matrix: ArrayLike) -> float:
    """mean_i mean_{j≤i} A[i, j]: mean over stages of the mean over tasks seen (iCaRL, Rebuffi et al. 2017)."""
    A = _checked(matrix)
    return float(np.mean([A[i, : i + 1].mean() for i in range(len(A))]))


def lower_triangle_accuracy(matrix: ArrayLike) -> float:
    """mean over all j ≤ i of A[i, j]: the accuracy of Continuum; late stages weigh more than in the one of iCaRL."""
    A = _checked(matrix)
    return float(A[np.tril_indices(len(A))].mean())


def forgetting(matrix: ArrayLike) -> float:
    """mean_{j<T−1} (max_{j≤l<T−1} A[l, j] − A[T−1, j]) (Chaudhry et al. 2018); negative where a task improved."""
    A = _checked(matrix)
    return _mean(A[j:-1, j].max() - A[-1, j] for j in range(len(A) - 1))


def forgetting_first_last(matrix: ArrayLike) -> float:
    """mean_{j<T−1} (A[j, j] − A[T−1, j]): as Avalanche reports it; the negative of backward transfer."""
    A = _checked(matrix)
    return _mean(A[j, j] - A[-1, j] for j in range(len(A) - 1))


def forgetting_including_last(matrix: ArrayLike) -> float:
    """mean_{j<T−1} (max_{j≤l≤T−1} A[l, j] − A[T−1, j]): as Mammoth reports it; never negative."""
    A = _checked(matrix)
    return _mean(A[j:, j].max() - A[-1, j] for j in range(len(A) - 1))


def forgetting_global_maximum(matrix: ArrayLike) -> float:
    """mean_j (max A − A[T−1, j]) with the maximum of the whole matrix, as CLVQA reports it.

    It mixes forgetting with the difficulty of the tasks; kept to compare with published numbers.
    """
    A = _checked(matrix)
    return float((A.max() - A[-1]).mean())


def backward_transfer(matrix: ArrayLike) -> float:
    """mean_{j<T−1} (A[T−1, j] − A[j, j]) (GEM, Lopez-Paz and Ranzato 2017)."""
    return -forgetting_first_last(matrix)


def backward_transfer_all_stages(matrix: ArrayLike) -> float:
    """mean over all i > j of (A[i, j] − A[j, j]): as Continuum reports it, every stage counted."""
    A = _checked(matrix)
    return _mean(A[i, j] - A[j, j] for i in range(len(A)) for j in range(i))


def forward_transfer(matrix: ArrayLike, initial: ArrayLike) -> float:
    """mean_{j≥1} (A[j−1, j] − b_j) (GEM, Lopez-Paz and Ranzato 2017). initial [T]: b, scores of the untrained model."""
    A, b = _checked(matrix), np.asarray(initial, dtype=float)
    if b.shape != (len(A),) or not np.isfinite(b).all():
        raise InputError(f"initial: expected {len(A)} finite scores of the untrained model, got shape {b.shape}.")
    return _mean(A[j - 1, j] - b[j] for j in range(1, len(A)))


def forward_transfer_without_initial(matrix: ArrayLike) -> float:
    """mean_{j≥1} A[j−1, j]: as Continuum reports it; it ignores the score of the untrained model."""
    A = _checked(matrix)
    return _mean(A[j - 1, j] for j in range(1, len(A)))


def zero_shot_transfer(matrix: ArrayLike) -> float:
    """mean_{j≥1} mean_{i<j} A[i, j]: scores on tasks not trained yet ("Transfer" of MTIL, Zheng et al. 2023)."""
    A = _checked(matrix)
    return _mean(A[:j, j].mean() for j in range(1, len(A)))


def overall_average(matrix: ArrayLike) -> float:
    """mean of all entries of A ("Average" of MTIL, Zheng et al. 2023)."""
    return float(_checked(matrix).mean())


def final_average_performance(matrix: ArrayLike) -> float:
    """mean_j A[T−1, j]: "AP" of VQACL (Zhang et al. 2023), another name of :func:`last_accuracy`."""
    return last_accuracy(matrix)


def average_forgetting(matrix: ArrayLike) -> float:
    """The "AF" or "Forget" that goes with AP in VQACL (Zhang et al. 2023): another name of :func:`forgetting`."""
    return forgetting(matrix)


def relative_to_chance(score: float, reference: float, chance: float) -> float:
    """(score − reference) / (reference − chance): the form of every measure of CLiMB (Srinivasan et al. 2022).

    A fraction; the paper reports per cent. Raises InputError where reference and chance are equal.
    """
    if reference == chance:
        raise InputError(f"reference: expected a score that differs from chance ({chance}), got the same.")
    return (score - reference) / (reference - chance)


def upstream_transfer(score: float, single_task: float, chance: float) -> float:
    """(S − S_single) / (S_single − S_chance): what earlier tasks brought to this one (CLiMB, Srinivasan et al. 2022).

    score: right after learning the task in the stream; single_task: the same model trained on this task alone.
    """
    return relative_to_chance(score, single_task, chance)


def relative_forgetting(after_own: float, now: float, chance: float) -> float:
    """(S_own − S_now) / (S_own − S_chance): share of what was learnt that is lost (CLiMB, Srinivasan et al. 2022).

    after_own: right after learning the task; now: after later tasks. 1 where the task is back at chance.
    """
    return -relative_to_chance(now, after_own, chance)


def low_shot_transfer(score: float, single_task: float, chance: float) -> float:
    """(S − S_single) / (S_single − S_chance) of a new task learnt from few rows (CLiMB, Srinivasan et al. 2022).

    score: learnt after the stream; single_task: learnt from the same rows by the model that saw no stream.
    """
    return relative_to_chance(score, single_task, chance)


def accuracy_after_each(matrix: ArrayLike) -> np.ndarray:
    """float64 [T]: mean over the tasks seen so far, mean_{j≤i} A[i, j], after every task i."""
    A = _checked(matrix)
    return np.array([A[i, : i + 1].mean() for i in range(len(A))])


def forgetting_after_each(matrix: ArrayLike) -> np.ndarray:
    """float64 [T]: :func:`forgetting` of the first i + 1 tasks after every task i; NaN after the first."""
    A = _checked(matrix)
    return np.array([forgetting(A[: i + 1, : i + 1]) for i in range(len(A))])


def forgetting_of_each(matrix: ArrayLike) -> np.ndarray:
    """float64 [T−1]: max_{j≤l<T−1} A[l, j] − A[T−1, j] of every task but the last; its mean is :func:`forgetting`."""
    A = _checked(matrix)
    return np.array([A[j:-1, j].max() - A[-1, j] for j in range(len(A) - 1)])


def summary(matrix: ArrayLike, initial: ArrayLike | None = None) -> dict[str, float]:
    """All measures of one matrix by name; forward transfer where ``initial`` [T] is given."""
    measures = (
        last_accuracy,
        average_incremental_accuracy,
        lower_triangle_accuracy,
        forgetting,
        forgetting_first_last,
        forgetting_including_last,
        forgetting_global_maximum,
        backward_transfer,
        backward_transfer_all_stages,
        forward_transfer_without_initial,
        zero_shot_transfer,
        overall_average,
    )
    values = {measure.__name__: measure(matrix) for measure in measures}
    if initial is not None:
        values["forward_transfer"] = forward_transfer(matrix, initial)
    return values


def _checked(matrix: ArrayLike) -> np.ndarray:
    A = np.asarray(matrix, dtype=float)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.size == 0:
        raise InputError(f"accuracy matrix: expected [T, T] with T ≥ 1, got shape {A.shape}.")
    if not np.isfinite(A).all():
        raise InputError("accuracy matrix: it has NaN or infinite entries; finish the run or cut the matrix.")
    return A


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")
