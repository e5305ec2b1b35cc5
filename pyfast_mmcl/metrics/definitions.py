"""One word, several measures: what papers and libraries mean by accuracy, forgetting and transfer, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from pyfast_mmcl.metrics import continual


@dataclass(frozen=True)
class Definition:
    """A measure of the accuracy matrix: the word that papers use for it, its formula, and who reports it so."""

    measure: Callable[..., float]
    word: str
    formula: str
    reported_by: str
    higher_is_better: bool = True

    @property
    def name(self) -> str:
        return self.measure.__name__


_LOWER = False
# A[i, j]: score on task j after task i, both counted from 1 as papers do.
DEFINITIONS: tuple[Definition, ...] = (
    Definition(continual.last_accuracy, "accuracy", "mean over j of A[T, j]", "Last of MTIL; AP of VQACL"),
    Definition(
        continual.average_incremental_accuracy, "accuracy", "mean over i of (mean over j ≤ i of A[i, j])", "iCaRL"
    ),
    Definition(continual.lower_triangle_accuracy, "accuracy", "mean over all j ≤ i of A[i, j]", "Continuum"),
    Definition(continual.overall_average, "accuracy", "mean of all A[i, j]", "Average of MTIL"),
    Definition(
        continual.forgetting,
        "forgetting",
        "mean over j < T of (max over j ≤ l < T of A[l, j] − A[T, j])",
        "Chaudhry et al. 2018; AF of VQACL",
        _LOWER,
    ),
    Definition(
        continual.forgetting_first_last, "forgetting", "mean over j < T of (A[j, j] − A[T, j])", "Avalanche", _LOWER
    ),
    Definition(
        continual.forgetting_including_last,
        "forgetting",
        "mean over j < T of (max over j ≤ l ≤ T of A[l, j] − A[T, j])",
        "Mammoth",
        _LOWER,
    ),
    Definition(
        continual.forgetting_global_maximum,
        "forgetting",
        "mean over j of (max of the whole A − A[T, j])",
        "CLVQA",
        _LOWER,
    ),
    Definition(continual.backward_transfer, "backward transfer", "mean over j < T of (A[T, j] − A[j, j])", "GEM"),
    Definition(
        continual.backward_transfer_all_stages,
        "backward transfer",
        "mean over all i > j of (A[i, j] − A[j, j])",
        "Continuum",
    ),
    Definition(continual.forward_transfer, "forward transfer", "mean over j ≥ 2 of (A[j − 1, j] − b[j])", "GEM"),
    Definition(
        continual.forward_transfer_without_initial, "forward transfer", "mean over j ≥ 2 of A[j − 1, j]", "Continuum"
    ),
    Definition(
        continual.zero_shot_transfer,
        "forward transfer",
        "mean over j ≥ 2 of (mean over i < j of A[i, j])",
        "Transfer of MTIL",
    ),
)


def by_definition(matrix: ArrayLike, initial: ArrayLike | None = None) -> dict[str, dict[str, float]]:
    """Every measure of one matrix under the word that papers use for it: {"forgetting": {"forgetting": …, …}, …}.

    Arguments and errors as in :func:`pyfast_mmcl.metrics.continual.summary`.
    """
    values = continual.summary(matrix, initial)
    table: dict[str, dict[str, float]] = {}
    for definition in DEFINITIONS:
        if definition.name in values:
            table.setdefault(definition.word, {})[definition.name] = values[definition.name]
    return table


def disagreements(
    matrix: ArrayLike, initial: ArrayLike | None = None, *, tolerance: float = 0.005
) -> dict[str, dict[str, float]]:
    """The words whose definitions differ by more than ``tolerance`` on this matrix, with the value of each.

    tolerance: in the unit of the matrix; the default is half a point where scores are fractions. Arguments and errors
    as in :func:`pyfast_mmcl.metrics.continual.summary`.
    """
    table = by_definition(matrix, initial)
    return {word: values for word, values in table.items() if _range(list(values.values())) > tolerance}


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)
