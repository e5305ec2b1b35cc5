"""Synaptic intelligence: weights matter as far as they lowered the loss on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import number_above_zero
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.quadratic import Quadratic, copied, penalty_strength, scalar, state_entry
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner


class SynapticIntelligence(Part):
    """c · Σ_i Ω_i (θ_i − θ̃_i)², with Ω_i the sum over earlier tasks of ω_i / ((θ_i(end) − θ_i(start))² + ξ).

    ω_i = −Σ over steps of g_i · Δθ_i sums what each step of weight i took off the loss of the task, to first order: g
    is the gradient of everything but this penalty, Δθ the change that the optimizer made of it, whichever it is.
    """

    def __init__(self, c: float, xi: float) -> None:
        self.c = penalty_strength("c", c)
        self.xi = number_above_zero("xi", scalar(xi))
        self.quadratic_ = Quadratic()
        self.path_: dict[str, Tensor] = {}  # ω of the current task
        self.start_: dict[str, Tensor] = {}  # θ before its first step
        self._before: dict[str, tuple[Tensor, Tensor]] = {}  # g and θ of the step being taken

    def before_task(self, learner: Learner, task: Task) -> None:
        self.path_, self.start_ = {}, {}

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        return self.quadratic_.penalty(learner.model, self.c)

    def edit_grads(self, learner: Learner, batch: Batch) -> None:
        pull = self.quadratic_.gradient(learner.model, self.c)
        for name, p in learner.model.named_parameters():
            if p.grad is not None:
                now = copied(p)
                # Only now are all parts done with growing and freezing weights for the task.
                self.start_.setdefault(name, now)
                self.path_.setdefault(name, torch.zeros_like(now))
                self._before[name] = (p.grad.to_dense().to(now.dtype) - pull.get(name, 0.0), now)

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        for name, p in learner.model.named_parameters():
            if name in self._before:
                gradient, before = self._before[name]
                self.path_[name] = self.path_[name].to(p.device) - gradient * (p - before)
        self._before = {}

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        omega = {}
        for name, p in learner.model.named_parameters():
            if name in self.path_:
                moved = p.detach() - self.start_[name].to(p.device)
                omega[name] = self.path_[name] / (moved.square() + self.xi)
        self.quadratic_.add(learner.model, omega)
        # A weight whose steps raised the loss would be pushed away from its anchor; the authors' code stops at 0 too.
        self.quadratic_.weight = {name: w.clamp(min=0) for name, w in self.quadratic_.weight.items()}
        self.path_, self.start_ = {}, {}

    def state_dict(self) -> dict[str, Any]:
        return {"quadratic": self.quadratic_.state_dict(), "path": dict(self.path_), "start": dict(self.start_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.quadratic_.load_state_dict(state_entry(state, "quadratic", dict))
        self.path_, self.start_ = dict(state_entry(state, "path", dict)), dict(state_entry(state, "start", dict))


@recipe(
    family="regularization",
    paper="F. Zenke, B. Poole, S. Ganguli, Continual Learning Through Synaptic Intelligence, ICML 2017",
)
def si(c: float = 1.0, xi: float = 1e-3) -> list[Part]:
    """Cross-entropy and a quadratic around the latest optimum, weighted by what each weight did for the loss so far.

    loss = cross_entropy(scores, target) + c · (Ω · (θ − θ̃)²).sum()
    Ω   += −(sum over steps of g · Δθ) / ((θ(end) − θ(start))² + ξ), not below 0

    c   strength, 0 for none; xi  damping ξ, which bounds Ω where a weight hardly moved. Defaults are those of the paper
    for split MNIST (section 5.1); for permuted MNIST it has c = 0.1, ξ = 0.1 (section 5.2).

    It needs no pass over the data after a task; it keeps 2P numbers between tasks and 4P during one. g is the gradient
    without the penalty, as in the authors' code.

    Reference: Zenke, Poole, Ganguli, ICML 2017, equations 3 to 5.
    """
    return [Objective(), SynapticIntelligence(c, xi)]
