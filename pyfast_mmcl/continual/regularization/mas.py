"""Memory aware synapses: weights matter as far as the output moves with them, whatever the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyfast_mmcl.train.importance import check_samples, output_sensitivity
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy
from pyfast_mmcl.train.quadratic import Quadratic, penalty_strength
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class AwareSynapses(Part):
    """λ · Σ_i Ω_i (θ_i − θ*_i)² with Ω ← Ω + Ω_t and θ* the weights after the latest task."""

    def __init__(self, lam: float, *, samples: int | None = None) -> None:
        self.lam = penalty_strength("lam", lam)
        self.samples = check_samples(samples)
        self.quadratic_ = Quadratic()

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        return self.quadratic_.penalty(learner.model, self.lam)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        self.quadratic_.add(learner.model, output_sensitivity(learner, loader, samples=self.samples))

    def state_dict(self) -> dict[str, Any]:
        return self.quadratic_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.quadratic_.load_state_dict(state)


@recipe(
    family="regularization",
    paper="R. Aljundi et al., Memory Aware Synapses: Learning What (not) to Forget, ECCV 2018",
)
def mas(lam: float = 1.0, samples: int | None = None) -> list[Part]:
    """Cross-entropy and a quadratic around the latest optimum, weighted by how much each weight moves the scores.

    loss = cross_entropy(scores, target) + lam · (Ω · (θ − θ*)²).sum()
    Ω    = sum over earlier tasks of the mean over rows of |∂ ‖scores‖² / ∂θ|

    lam      strength, 0 for none; 1 as in the authors' code for object recognition
    samples  rows of a task that its Ω is estimated from (default: all); no labels are used

    Reference: Aljundi et al., ECCV 2018, equations 2, 4 and 5. The absolute value is taken per row, as in the paper;
    other implementations take that of a batch's gradient, in which rows cancel.
    """
    return [CrossEntropy(), AwareSynapses(lam, samples=samples)]
