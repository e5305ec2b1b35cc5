"""EWC as Huszár reads it: the Fishers add up, and the latest weights are the only anchor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyfast_mmcl.train.importance import check_estimator, fisher
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.quadratic import Quadratic, penalty_strength
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class SummedFisher(Part):
    """λ/2 · Σ_i (Σ_{k<t} F_{k,i}) (θ_i − θ*_{t−1,i})²."""

    def __init__(
        self, lam: float, *, labels: str = "auto", samples: int | None = None, clamp: float | None = None
    ) -> None:
        self.lam = penalty_strength("lam", lam)
        self.estimator = check_estimator(labels, samples, clamp)
        self.quadratic_ = Quadratic()

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        return self.quadratic_.penalty(learner.model, self.lam / 2)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        self.quadratic_.add(learner.model, fisher(learner, loader, **self.estimator))

    def state_dict(self) -> dict[str, Any]:
        return self.quadratic_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.quadratic_.load_state_dict(state)


@recipe(
    family="regularization",
    paper="F. Huszár, Note on the Quadratic Penalties in Elastic Weight Consolidation, PNAS 2018",
)
def ewc_huszar(
    lam: float = 1000.0, labels: str = "auto", samples: int | None = None, clamp: float | None = None
) -> list[Part]:
    """Cross-entropy and one quadratic around the latest optimum, weighted by the sum of all Fishers.

    loss = cross_entropy(scores, target) + lam/2 · ((F_1 + … + F_{t−1}) · (θ − θ*_{t−1})²).sum()

    Not the objective of ewc, whose folded anchor is the Fisher-weighted mean of all optima: here the latest optimum,
    which already took the earlier penalties into account, stands for them all.

    lam, labels, samples, clamp: as for ewc

    Reference: Huszár, PNAS 115, 2018. The single penalty and its centre are stated there; the estimator and the factor
    ½ follow our specification and the published method may differ in them.
    """
    return [Objective(), SummedFisher(lam, labels=labels, samples=samples, clamp=clamp)]
