"""Runs that differ in their seed alone, pooled: spreads of measures, mean matrices, curves, costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..metrics.continual import accuracy_after_each, forgetting_after_each
from ..metrics.seeds import Spread, over_seeds, paired_difference
from ..train import History
from .chart import Line
from .collect import Collected, Run, show


@dataclass(frozen=True)
class Pool:
    """The runs of one method with one set of settings on one stream, a seed each; `label` tells it from its kin."""

    stream: str
    method: str
    label: str
    runs: tuple[Run, ...]

    @cached_property
    def summaries(self) -> dict[int, dict[str, float]]:
        """Every measure of every seed."""
        return {run.seed: run.history.summary() for run in self.runs}

    def spread(self, measure: str) -> Spread | None:
        """A measure over the seeds; None where the runs do not have it."""
        return _over(summary.get(measure) for summary in self.summaries.values())

    def difference(self, other: Pool, measure: str) -> Spread | None:
        """This pool minus the other one, seed by seed; None where they share no seed."""
        values = [{seed: s.get(measure, math.nan) for seed, s in pool.summaries.items()} for pool in (self, other)]
        return paired_difference(values[0], values[1])

    def cost(self, amount: Callable[[History], float | None]) -> Spread | None:
        """An amount over the seeds whose history says it; None where none does."""
        return _over(amount(run.history) for run in self.runs)

    @cached_property
    def matrices(self) -> np.ndarray:
        """The accuracy matrices, float64 [seeds, T, T]."""
        return np.stack([run.history.accuracy_matrix for run in self.runs])

    @property
    def mean_matrix(self) -> np.ndarray:
        return self.matrices.mean(0)

    @property
    def sd_matrix(self) -> np.ndarray | None:
        return self.matrices.std(0, ddof=1) if len(self.runs) > 1 else None

    @property
    def score(self) -> str:
        """What the accuracy matrix holds."""
        return self.runs[0].score

    @cached_property
    def modalities(self) -> list[str]:
        """Modalities, or directions of pairs, that the runs were also measured by."""
        return list(dict.fromkeys(name for run in self.runs for name in run.history.by_modality))

    def matrix_by_modality(self, name: str) -> np.ndarray:
        """Mean over the seeds that have it, float64 [T, T]; NaN where no row has the modality."""
        return np.mean([run.history.by_modality[name] for run in self._with(name)], axis=0)

    def last_by_modality(self, name: str) -> Spread | None:
        """Mean after the last task over the tasks that have the modality."""
        rows = [np.array(run.history.by_modality[name][-1], dtype=float) for run in self._with(name)]
        return _over(float(row[np.isfinite(row)].mean()) if np.isfinite(row).any() else None for row in rows)

    def _with(self, modality: str) -> list[Run]:
        return [run for run in self.runs if run.history.by_modality.get(modality)]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks; their numbers where seeds order the tasks differently."""
        names = [run.history.tasks for run in self.runs]
        same = all(other == names[0] for other in names)
        return list(names[0]) if same else [f"task {j + 1}" for j in range(len(names[0]))]

    def accuracy_line(self, banded: bool = True) -> Line:
        """Mean accuracy over the tasks seen so far, per cent, ± its standard deviation over seeds."""
        return _line(np.stack([accuracy_after_each(matrix) for matrix in self.matrices]), banded)

    def forgetting_line(self, banded: bool = True) -> Line:
        """Forgetting after every task, points, ± its standard deviation over seeds."""
        return _line(np.stack([forgetting_after_each(matrix) for matrix in self.matrices]), banded)


def pools(found: Collected) -> dict[str, list[Pool]]:
    """Stream → pools: streams by name, pools from the best last accuracy down, the seeds of a pool ascending."""
    kin: dict[tuple[str, str], dict[str, list[Run]]] = {}
    for run in found.runs:
        kin.setdefault((run.stream, run.method), {}).setdefault(_key(run), []).append(run)
    table: dict[str, list[Pool]] = {}
    for (stream, method), variants in sorted(kin.items()):
        differing = _differing([members[0] for members in variants.values()])
        for members in variants.values():
            members.sort(key=lambda run: run.seed)
            own = [f"{name} {show(members[0].settings.get(name))}" for name in differing]
            label = f"{method} ({', '.join(own)})" if own else method
            table.setdefault(stream, []).append(Pool(stream, method, label, tuple(members)))
    return {stream: sorted(group, key=_rank) for stream, group in table.items()}


def _rank(pool: Pool) -> tuple[float, str]:
    """The best accuracy after the last task comes first."""
    return -pool.spread("last_accuracy").mean, pool.label


def _over(values: Iterable[float | None]) -> Spread | None:
    numbers = [value for value in values if value is not None]
    return over_seeds(numbers) if numbers else None


def _key(run: Run) -> str:
    return repr(sorted(run.settings.items()))


def _differing(kin: Sequence[Run]) -> list[str]:
    """The settings in which runs of one method on one stream differ."""
    names = list(dict.fromkeys(name for run in kin for name in run.settings))
    return [name for name in names if len({repr(run.settings.get(name)) for run in kin}) > 1]


def _line(values: np.ndarray, banded: bool) -> Line:
    """Values [seeds, T] as a line of per cents, where asked with a band of one standard deviation on each side."""
    spreads = [over_seeds(column) for column in 100 * values.T]
    means, sds = np.array([s.mean for s in spreads]), np.array([s.sd if banded else math.nan for s in spreads])
    return Line(means.tolist(), (means - sds).tolist(), (means + sds).tolist())
