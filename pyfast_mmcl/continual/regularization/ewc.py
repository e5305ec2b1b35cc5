"""Elastic weight consolidation: every task anchors the weights where it left them, as firmly as they matter to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyfast_mmcl._errors import CheckpointError, unknown_name
from pyfast_mmcl.train.importance import check_estimator, fisher
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.quadratic import Quadratic, penalty_strength, state_entry
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

MODES = ("folded", "separate")


class ElasticWeights(Part):
    """λ/2 · Σ_{k<t} Σ_i F_{k,i} (θ_i − θ*_{k,i})².

    mode  "separate" keeps F_k and θ*_k of every task, 2PT numbers; "folded" their sum as one quadratic, 2P numbers with
          the same value and gradient
    labels, samples, clamp: as in ``train.importance.fisher``
    """

    def __init__(
        self,
        lam: float,
        *,
        mode: str = "folded",
        labels: str = "auto",
        samples: int | None = None,
        clamp: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise unknown_name("mode of ewc", mode, MODES)
        self.lam = penalty_strength("lam", lam)
        self.mode = mode
        self.estimator = check_estimator(labels, samples, clamp)
        self.quadratics_: list[Quadratic] = []

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        terms = [quadratic.penalty(learner.model, self.lam / 2) for quadratic in self.quadratics_]
        known = [term for term in terms if term is not None]
        return sum(known[1:], known[0]) if known else None

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        if self.mode == "separate" or not self.quadratics_:
            self.quadratics_.append(Quadratic())
        self.quadratics_[-1].fold(learner.model, fisher(learner, loader, **self.estimator))

    def state_dict(self) -> dict[str, Any]:
        return {"mode": self.mode, "quadratics": [quadratic.state_dict() for quadratic in self.quadratics_]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        mode = state_entry(state, "mode", str)
        if mode != self.mode:
            raise CheckpointError(f"checkpoint: ewc was {mode} there and is {self.mode} here; use mode={mode!r}.")
        self.quadratics_ = []
        for values in state_entry(state, "quadratics", list):
            self.quadratics_.append(Quadratic())
            self.quadratics_[-1].load_state_dict(values)


@recipe(
    family="regularization",
    paper="J. Kirkpatrick et al., Overcoming Catastrophic Forgetting in Neural Networks, PNAS 2017",
)
def ewc(
    lam: float = 1000.0,
    mode: str = "folded",
    labels: str = "auto",
    samples: int | None = None,
    clamp: float | None = None,
) -> list[Part]:
    """Cross-entropy and, for every earlier task, a quadratic around its optimum weighted by its Fisher information.

    loss = cross_entropy(scores, target) + lam/2 · sum over earlier tasks k of (F_k · (θ − θ*_k)²).sum()
    F_k  = mean over the rows of task k of E_{y ~ p(y|x)} (∂ log p(y|x) / ∂θ)², at θ*_k

    lam      strength, 0 for none; 1000 as in PyCIL, but it is not portable: with the Fisher of one implementation and
             data set it is right, with another it can be off by orders of magnitude. Tune it on held-out rows.
    mode     "folded" keeps one quadratic, "separate" one per task; the same objective
    labels   which Fisher: "auto", "exact", "sampled", "empirical" or "batch" (``train.importance.fisher``)
    samples  rows of a task that its Fisher is estimated from (default: all)
    clamp    largest Fisher value kept (default: none)

    Parameters that a task creates are free until it ends; running statistics of BatchNorm are not anchored.

    Reference: Kirkpatrick et al., PNAS 114, 2017, equation 3; the factor ½ and one penalty per task are theirs. The
    folding is exact (Huszár, PNAS 115, 2018, states the anchor).
    """
    return [Objective(), ElasticWeights(lam, mode=mode, labels=labels, samples=samples, clamp=clamp)]
