"""Online EWC: one penalty around the latest weights, with a Fisher that fades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.importance import check_estimator, fisher
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.quadratic import Quadratic, penalty_strength
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class FadingWeights(Part):
    """λ/2 · γ · Σ_i F̃_i (θ_i − θ*_i)² with F̃ ← γ F̃ + F_t and θ* the weights after the latest task."""

    def __init__(
        self,
        lam: float,
        gamma: float,
        *,
        gamma_in_penalty: bool = True,
        labels: str = "auto",
        samples: int | None = None,
        clamp: float | None = None,
    ) -> None:
        self.gamma = penalty_strength("gamma", gamma)
        if not 0 < self.gamma <= 1:
            raise InputError(f"gamma: expected a number in (0, 1], got {gamma!r}; with 1 nothing fades.")
        self.strength = penalty_strength("lam", lam) / 2 * (self.gamma if gamma_in_penalty else 1.0)
        self.estimator = check_estimator(labels, samples, clamp)
        self.quadratic_ = Quadratic()

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        return self.quadratic_.penalty(learner.model, self.strength)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        self.quadratic_.add(learner.model, fisher(learner, loader, **self.estimator), decay=self.gamma)

    def state_dict(self) -> dict[str, Any]:
        return self.quadratic_.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.quadratic_.load_state_dict(state)


@recipe(
    family="regularization",
    paper="J. Schwarz et al., Progress & Compress: A Scalable Framework for Continual Learning, ICML 2018",
)
def online_ewc(
    lam: float = 1000.0,
    gamma: float = 0.95,
    gamma_in_penalty: bool = True,
    labels: str = "auto",
    samples: int | None = None,
    clamp: float | None = None,
) -> list[Part]:
    """Cross-entropy and one quadratic around the latest optimum, weighted by a decaying sum of Fishers.

    loss = cross_entropy(scores, target) + lam/2 · (γ F̃ · (θ − θ*)²).sum()
    F̃ ← γ F̃ + F_t and θ* ← θ after every task

    lam               strength, 0 for none; 1000 as for ewc; tune it
    gamma             γ in (0, 1]: how much an earlier task still counts one task later (the default is ours, the paper
                      tunes it). With 1 this is ewc_huszar.
    gamma_in_penalty  whether γ stands in the penalty as well, as in the paper; some implementations apply it once
    labels, samples, clamp: as for ewc

    Reference: Schwarz et al., ICML 2018, section 4. The factor ½ is that of ewc.
    """
    part = FadingWeights(lam, gamma, gamma_in_penalty=gamma_in_penalty, labels=labels, samples=samples, clamp=clamp)
    return [Objective(), part]
