"""Learning without forgetting: on the rows of a new task, the earlier classes get the scores they got before it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError, number_from_zero, unknown_name
from pyfast_mmcl.losses import LogitsDistillation
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, check_classes
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.teacher import Teacher

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

LABELS = ("task", "all")


class NewLabels(CrossEntropy):
    """cross_entropy of the fresh rows over the classes of their task, or over "all" that the model scores.

    Where the task id is told at test a row is only ever one of its task's classes, whichever is chosen. Generated
    answers are over the whole vocabulary.
    """

    def __init__(self, labels: str) -> None:
        if labels not in LABELS:
            raise unknown_name("choice of labels for lwf", labels, LABELS)
        super().__init__("fresh")
        self.labels = labels

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if batch.target.ndim > 1 or (self.labels == "all" and not tells_task(learner)):
            return super().loss(learner, batch, out)
        check_classes(out.scores, learner.task.classes)
        classes = torch.tensor(learner.task.classes, device=batch.device)
        place = torch.searchsorted(classes, batch.target[: batch.fresh])
        return cross_entropy(out.scores[: batch.fresh, classes], place)


class OldScores(Part):
    """weight · Σ over sets S of earlier classes of KL(softmax(z'_S / T) ‖ softmax(z_S / T)), the mean over rows.

    z' are the scores of the model before the task. S is one set, all earlier classes; where the task id is told at
    test, the classes of each earlier task are a set of their own, as they were a head of their own. With ``scale_T2``
    the term is multiplied by T².
    """

    def __init__(self, weight: float, temperature: float, *, scale_T2: bool) -> None:
        self.weight = number_from_zero("lam", weight)
        self.distance = LogitsDistillation(temperature, scale_T2=scale_T2)
        self.teacher_ = Teacher()
        self.tasks_: list[list[int]] = []

    def before_task(self, learner: Learner, task: Task) -> None:
        if learner.objective != "classify":
            raise InputError(
                "lwf: it keeps the scores of classes, and a stream of pairs has none; use mod_x, feature_kd or "
                "relation_kd."
            )
        if task.id > 0 and self.weight > 0:
            self.teacher_.take(learner.model)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        # A row that tells its task is scored on that task's classes alone; the earlier ones are wanted too.
        hide = bool(self.teacher_) and tells_task(learner)
        return replace(batch, task=torch.full_like(batch.task, -1)) if hide else batch

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if not self.teacher_:
            return None
        before = self.teacher_(batch, learner.model).scores
        if out.scores.ndim > 2:
            return self.weight * self.distance(out.scores[..., : before.shape[-1]], before)
        terms = []
        for classes in self.sets(learner):
            check_classes(before, classes)
            terms.append(self.distance(out.scores[:, classes], before[:, classes]))
        return self.weight * torch.stack(terms).sum()

    def sets(self, learner: Learner) -> list[list[int]]:
        """The sets of earlier classes, each with a softmax of its own."""
        if tells_task(learner):
            return [list(classes) for classes in dict.fromkeys(map(tuple, self.tasks_))]
        return [sorted({c for classes in self.tasks_ for c in classes})]

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        self.tasks_.append(list(task.classes))

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": self.teacher_.state_dict(), "tasks": [list(classes) for classes in self.tasks_]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher_.load_state_dict(state["teacher"])
        self.tasks_ = [list(classes) for classes in state["tasks"]]


def tells_task(learner: Learner) -> bool:
    """Whether a row tells its task at test."""
    return learner.scenario is not None and learner.scenario.task_id_at_test


@recipe(family="distillation", paper="Z. Li and D. Hoiem, Learning without Forgetting, ECCV 2016")
def lwf(lam: float = 3.0, temperature: float = 2.0, scale_T2: bool = False, labels: str = "task") -> list[Part]:
    """Cross-entropy over the classes of the task, and the scores of the earlier classes held to those before it.

    loss = cross_entropy(z[:, task], target) + lam · KL(softmax(z'[:, old] / T) ‖ softmax(z[:, old] / T))

    lam          weight (3, as PyCIL for classes that come in turns; the paper: 1 for a head per task); 0 for none
    temperature  T (2, as the paper)
    scale_T2     multiply the second term by T² (False, as the paper, PyCIL and Avalanche)
    labels       classes that the cross-entropy is over: those of the "task", as the paper and PyCIL, or "all"

    z' is a frozen copy of the model before the task, asked for the rows of this task: no row is kept. Where the task id
    is told at test the second term is a sum over the earlier tasks, as in the paper, and rows are trained without their
    task id, so that the model must score all classes of a row without one, as ``models.ClassifierHead`` does.

    The paper's cross-entropy against z' differs by a constant; ours is 0 when nothing has changed. The paper trains the
    new head alone before everything together, which ours leaves out.

    Reference: Li and Hoiem, ECCV 2016, section 3 and figure 3.
    """
    return [NewLabels(labels), OldScores(lam, temperature, scale_T2=scale_T2)]
