"""Hard attention to the task: every task opens some units, and the gradients of later ones leave those alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from pyfast_mmcl._errors import InputError, number_above_zero, number_from_zero
from pyfast_mmcl.models.masks import MaskedClassifier, check_masked
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class TaskMasks(Part):
    """weight · Σ a (1 − a^{<t}) / Σ (1 − a^{<t}), and what a step does: annealing, closed gradients."""

    def __init__(self, weight: float, s_max: float) -> None:
        self.weight = number_from_zero("lam", weight)
        self.s_max = number_above_zero("s_max", s_max)
        if self.s_max <= 1:
            raise InputError(f"s_max: expected a number above 1, got {s_max}; at 1 there is nothing to anneal.")

    def before_task(self, learner: Learner, task: Task) -> None:
        masks(learner).start_task(task.id, self.s_max)

    def extend(self, learner: Learner, batch: Batch) -> Batch:
        last = learner.steps_per_epoch - 1
        # An epoch of a single batch has no way to go, and is trained as it will be tested.
        masks(learner).anneal(learner.step_of_epoch / last if last else 1.0)
        return batch

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        return self.weight * masks(learner).usage(learner.task.id) if self.weight else None

    def edit_grads(self, learner: Learner, batch: Batch) -> None:
        masks(learner).edit_grads(learner.task.id)

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        masks(learner).hold(learner.task.id)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        masks(learner).close_task(task.id)


def masks(learner: Learner) -> MaskedClassifier:
    """The model of the learner. Raises InputError when it has no masks."""
    return check_masked("hat", learner.model)


@recipe(
    family="architecture",
    paper="J. Serrà et al., Overcoming Catastrophic Forgetting with Hard Attention to the Task, ICML 2018",
    model="masked",
)
def hat(lam: float = 0.75, s_max: float = 400.0) -> list[Part]:
    """Units multiplied by a learned mask per task; weights between units of earlier tasks get no gradient.

    h = a_t · relu(W h),  a_t = σ(s e_t);  grad(W_ij) ← (1 − min(a_i^{<t}, a_j^{<t})) grad(W_ij)
    loss = cross_entropy(scores, target) + lam · Σ a_t (1 − a^{<t}) / Σ (1 − a^{<t})

    lam    how dearly units are paid that no earlier task holds (0.75, as the paper)
    s_max  steepness of the masks at test (400, as the paper); in every epoch s goes from 1/s_max to s_max

    a^{<t} is the maximum of the masks of the earlier tasks at s_max. Embeddings e are compensated for the annealing and
    kept within ±6, as in the paper. Needs the task id at test (task-incremental streams) and a
    ``models.MaskedClassifier``: layers without normalisation, a head per task. The paper trains with optimizer="sgd",
    its learning rate 0.05 divided by 3 when the validation loss stands still, and batches of 64. There lam pulls every
    e down by about lr · lam · s_max / (4 U) a step, U the units of the model: with a few hundred units choose a smaller
    lam, or all masks close; Adam does not mind.

    An optimizer that moves weights without a gradient, as AdamW's decay does, would wear earlier tasks away: ours puts
    wholly held weights back after the step, to the bit. What a mask holds in part, between 0 and 1, still moves.

    Reference: Serrà et al., ICML 2018, section 2.
    """
    return [TaskMasks(lam, s_max), Objective()]
