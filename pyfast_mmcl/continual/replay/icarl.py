"""iCaRL: exemplars that stand for the mean of their class, and the class whose mean is nearest as the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from pyfast_mmcl._errors import InputError, number_above_zero, unknown_name
from pyfast_mmcl.data import Batch, cat
from pyfast_mmcl.losses import LogitsDistillation
from pyfast_mmcl.models.heads import is_masked
from pyfast_mmcl.ops.knn import knn
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys
from pyfast_mmcl.train.answers import WhileUnchanged, class_means, collect, features_of, in_slices
from pyfast_mmcl.train.memory import Herding, Memory
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import check_classes, check_labels
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.teacher import Teacher

if TYPE_CHECKING:
    from pyfast_mmcl.data import Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

LOSSES = ("bce", "ce_kd")


class Exemplars(Part):
    """The exemplars: trained on with every task's rows, chosen after it, and what answers are the nearest mean of.

    An epoch over a task's rows goes once through the exemplars too, spread evenly over its batches, as if both were
    one training set.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.memory_ = self._empty(0)
        self._means: WhileUnchanged[tuple[Tensor, Tensor]] = WhileUnchanged()

    def before_task(self, learner: Learner, task: Task) -> None:
        if len(self.memory_) == 0:
            self.memory_ = self._empty(learner.seed)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        n, i, steps = len(self.memory_), learner.step_of_epoch, learner.steps_per_epoch
        if n * i // steps == n * (i + 1) // steps:
            return batch
        seed = fold_seed(learner.seed, learner.task.id, learner.epoch)
        order = reservoir_keys(seed, self.memory_.index).argsort()
        drawn = self.memory_.select(order[n * i // steps : n * (i + 1) // steps])
        return cat([batch, drawn.to(batch.device)])

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        rows = cat(list(loader))
        self.memory_.add(rows, hints={"features": unit_features(learner, rows)[0]})
        self._means.forget()

    def predict(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if len(self.memory_) == 0:
            return None
        means, known = self._means.get(learner, lambda: self._class_means(learner, out.scores.shape[1]))
        distance, which = knn(features_of("icarl", out), means, len(means))
        lowest = torch.finfo(out.scores.dtype).min
        scores = torch.full_like(out.scores, lowest)
        scores[:, known] = torch.empty_like(distance).scatter_(1, which, -distance).to(scores.dtype)
        return scores.masked_fill(is_masked(out.scores), lowest)

    def state_dict(self) -> dict[str, Any]:
        return self.memory_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.memory_.load_state_dict(state)
        self._means.forget()

    def _empty(self, seed: int) -> Memory:
        return Memory(self.capacity, policy=Herding(("task", "target")), seed=seed)

    def _class_means(self, learner: Learner, n_classes: int) -> tuple[Tensor, Tensor]:
        """Means [K, D] of the classes that have exemplars, and their numbers [K]."""
        means, known = class_means(*unit_features(learner, self.memory_.all()), n_classes)
        known = known.nonzero().flatten()
        return means[known], known


class IncrementalLoss(Part):
    """The loss of every row, fresh or exemplar: labels for the task's classes, the earlier model for those before.

    "bce"    Σ over classes seen of BCE(z_c, t_c);  t_c = [c = y] for classes of the task, σ(teacher z_c) for others
    "ce_kd"  cross_entropy over the classes seen + KL(softmax(teacher z / T) ‖ softmax(z / T)) over the earlier ones
    """

    def __init__(self, loss: str, temperature: float) -> None:
        if loss not in LOSSES:
            raise unknown_name("loss of icarl", loss, LOSSES)
        self.kind = loss
        self.distance = LogitsDistillation(number_above_zero("temperature", temperature), scale_T2=False)
        self.teacher_ = Teacher()

    def before_task(self, learner: Learner, task: Task) -> None:
        if task.id > 0:
            self.teacher_.take(learner.model)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if out.scores.ndim != 2:
            raise InputError(f"icarl: expected one class per row, scores [B, C], got {tuple(out.scores.shape)}.")
        check_labels(out.scores, batch.target)
        check_classes(out.scores, learner.classes_seen)
        seen = torch.tensor(learner.classes_seen, device=batch.device)
        old = seen[~torch.isin(seen, torch.tensor(learner.task.classes, device=batch.device))]
        before = self.teacher_(batch, learner.model).scores if self.teacher_ and len(old) else None
        if self.kind == "bce":
            target = torch.zeros_like(out.scores).scatter_(1, batch.target.unsqueeze(1), 1.0)
            if before is not None:
                target[:, old] = before[:, old].sigmoid()
            rows = binary_cross_entropy_with_logits(out.scores[:, seen], target[:, seen], reduction="none").sum(1)
            return rows.mean()
        place = torch.searchsorted(seen, batch.target)
        loss = cross_entropy(out.scores[:, seen], place)
        return loss if before is None else loss + self.distance(out.scores[:, old], before[:, old])

    def state_dict(self) -> dict[str, Any]:
        return self.teacher_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher_.load_state_dict(state)


def unit_features(learner: Learner, rows: Batch) -> tuple[Tensor, Tensor]:
    """Unit features [N, D] of ``rows`` under the model as it is now, and their classes [N]."""

    def pick(batch: Batch, out: Output) -> dict[str, Tensor]:
        return {"features": features_of("icarl", out), "target": batch.target}

    found = collect(learner, in_slices(rows), pick)
    return found["features"], found["target"]


@recipe(
    family="replay",
    paper="S.-A. Rebuffi et al., iCaRL: Incremental Classifier and Representation Learning, CVPR 2017",
)
def icarl(capacity: int = 200, loss: str = "bce", temperature: float = 2.0) -> list[Part]:
    """Herded exemplars, distillation of the earlier classes, and the nearest mean of exemplars as the answer.

    p_k   = argmin over the rows x of a class of ‖μ − (φ(x) + Σ_{j<k} φ(p_j)) / k‖,  φ the unit features
    loss  = Σ_c bce(z_c, t_c), the mean over rows;  t_c = [c = y] for classes of the task, σ(teacher z_c) for others
    score = −‖φ(x) − m_c‖²,  m_c the mean of φ over the exemplars of class c, of length 1 itself

    capacity     exemplars of all classes together (200 as the other methods here; the authors: 2000 for CIFAR-100),
                 equally many of every class seen: when classes come, each keeps the front of its order
    loss         "bce", the paper's, or "ce_kd": cross-entropy and distillation by softmax, as PyCIL
    temperature  of "ce_kd" (2, as PyCIL)

    Needs a model that gives features. The rows of a task are in memory at once when its exemplars are chosen.

    Reference: Rebuffi et al., CVPR 2017, algorithms 1 to 5; herding is algorithm 4. Classes that come back in a later
    task (domain-incremental) have an exemplar set per task, and all classes of the task learn from labels. What does
    not divide by the number of classes goes to the first ones; the paper drops it. An epoch takes the exemplars along
    with the fresh rows batch by batch, where the paper shuffles both together.
    """
    return [Exemplars(capacity), IncrementalLoss(loss, temperature)]
