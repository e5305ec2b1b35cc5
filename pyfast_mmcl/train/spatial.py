"""The matrix of similarities between the two sides of a batch, as the model before the task saw it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from pyfast_mmcl._errors import number_from_zero
from pyfast_mmcl.train.pairs import are_pairs, pair_scale, two_sides
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.teacher import Teacher

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class SpatialAlignment(Part):
    """alpha · distance(V, T, V', T'; κ, κ') over the rows of the batch that have both sides.

    V, T are the unit embeddings of the two sides, V', T' those of the frozen model before the task. κ is the scale of
    either model, a constant for this term; parity=True takes 1 for both.

    distance  module of (student_a, student_b, teacher_a, teacher_b, student_scale=, teacher_scale=), a scalar
    """

    def __init__(self, distance: nn.Module, alpha: float, *, parity: bool = False) -> None:
        self.distance = distance
        self.alpha = number_from_zero("alpha", alpha)
        self.parity = parity
        self.teacher_ = Teacher()

    def before_task(self, learner: Learner, task: Task) -> None:
        if task.id > 0 and self.alpha > 0:
            self.teacher_.take(learner.model)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        v, t = two_sides(out)
        if not self.teacher_:
            return None
        rows = are_pairs(batch, out)
        if int(rows.sum()) < 2:
            return None
        old_v, old_t = two_sides(self.teacher_(batch, learner.model))
        scale, old_scale = (1.0, 1.0) if self.parity else map(_constant, (learner.model, self._old(learner)))
        sides = (v[rows], t[rows], old_v[rows], old_t[rows])
        return self.alpha * self.distance(*sides, student_scale=scale, teacher_scale=old_scale)

    def _old(self, learner: Learner) -> nn.Module:
        return self.teacher_.model(learner.model)

    def state_dict(self) -> dict[str, Any]:
        return self.teacher_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher_.load_state_dict(state)


def _constant(model: nn.Module) -> float | Tensor:
    scale = pair_scale(model)
    return scale.detach() if isinstance(scale, Tensor) else scale
