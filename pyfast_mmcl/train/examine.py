"""The examinations of a run: what a method answers, and the measures of its tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from pyfast_mmcl.models import Output
from pyfast_mmcl.train.evaluation import Measure, answered, by_modality
from pyfast_mmcl.train.modes import evaluation_mode

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader
    from pyfast_mmcl.train.learner import Learner
    from pyfast_mmcl.train.part import Part

_ROWS = 512


@torch.no_grad()
def answer(learner: Learner, batch: Batch, parts: list[Part], *, share: bool = False) -> Output:
    """What ``parts`` make of the model's answer; with ``share`` the processes of a run share the rows out.

    Row i depends on row i of the batch alone, and on nothing that the stream hides at test.
    """
    with evaluation_mode(learner.model):
        batch = batch.to(learner.device)
        # The answer asked for is nobody's to look at: a model that generates is not led by it either.
        batch = replace(batch, target=torch.full_like(batch.target, -1))
        out = learner._stepper.shared(batch) if share else learner.forward(batch)
        answers = (part.predict(learner, batch, out) for part in parts)
        given = next((found for found in answers if found is not None), out)
        return given if isinstance(given, Output) else replace(out, scores=given)


class Examiner:
    """Measures the tasks of the stream that ``learner`` is fitted to, as ``measure`` says."""

    def __init__(self, learner: Learner, measure: Measure) -> None:
        self._learner = learner
        self._measure = measure

    def task(
        self, task: int, split: str = "test", *, seen: bool = False, ask_parts: bool = True, share: bool = True
    ) -> float:
        """The measure of one task (or all up to it), of the model alone where the parts are not asked."""
        parts = self._learner.parts if ask_parts else []
        rows = self._loader(task, split, seen)
        return self._measure(answered(rows, lambda batch: answer(self._learner, batch, parts, share=share)))

    def all_tasks(self, *, ask_parts: bool = True) -> list[float]:
        """A row of the accuracy matrix."""
        return [self.task(task.id, ask_parts=ask_parts) for task in self._learner._stream.tasks]

    def by_modality(self) -> dict[str, list[float]]:
        """{modality: a row of the matrix}, from that modality alone; of pairs by direction."""
        learner = self._learner
        rows: dict[str, list[float]] = {}
        for task in learner._stream.tasks:
            found = by_modality(
                self._loader(task.id, "test"),
                lambda batch: answer(learner, batch, learner.parts),
                self._measure,
                learner.objective,
            )
            for name, value in found.items():
                rows.setdefault(name, []).append(value)
        return rows

    def _loader(self, task: int, split: str, seen: bool = False) -> Loader:
        return self._learner._stream.loader(task, split, seen=seen, batch_size=_ROWS)
