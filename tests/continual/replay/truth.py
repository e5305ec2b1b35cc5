"""Small runs of the replay methods, watched step by step, and what a test needs to restate them in float64."""

import copy

import torch

from pyfast_mmcl.train import Part
from tests.continual.regularization.truth import fitted, make, small_stream

__all__ = ["fitted", "make", "small_stream"]

METHODS = {
    "er": {"capacity": 20},
    "der": {"capacity": 20},
    "derpp": {"capacity": 20},
    "er_ace": {"capacity": 20},
    "mir": {"capacity": 60, "rows": 5},
    "agem": {"capacity": 20},
    "gdumb": {"capacity": 20},
}


class Watch(Part):
    """Calls ``look(learner, batch, out, terms)`` in every step, with the terms that the parts before it give."""

    def __init__(self, look):
        self.look = look

    def loss(self, learner, batch, out):
        terms = [part.loss(learner, batch, out) for part in learner.parts if part is not self]
        self.look(learner, batch, out, [term for term in terms if term is not None])


class HiddenTasks(Part):
    """Training rows whose task nobody tells."""

    def extend(self, learner, batch):
        batch.task = torch.full_like(batch.task, -1)
        return batch


class Grow(Part):
    """A head with a row per class seen; what it has learned stays."""

    def width(self, task):
        return max(task.classes) + 1

    def before_task(self, learner, task):
        old = learner.model.head.linear
        new = torch.nn.Linear(old.in_features, self.width(task))
        kept = min(old.out_features, new.out_features) if task.id else 0
        with torch.no_grad():
            new.weight[:kept], new.bias[:kept] = old.weight[:kept], old.bias[:kept]
        learner.model.head.linear = new


class Killed(BaseException):
    """Not an error that anybody handles."""


class Cut(Part):
    """Kills the run in ``hook`` of the given step; never without a step."""

    def __init__(self, hook="", step=-1):
        # With an underscore: where a run is killed is no setting of it.
        self.hook_, self.step_ = hook, step

    def _maybe(self, learner, hook):
        if hook == self.hook_ and learner.step >= self.step_ >= 0:
            raise Killed

    def extend(self, learner, batch):
        self._maybe(learner, "extend")
        return batch

    def edit_grads(self, learner, batch):
        self._maybe(learner, "edit_grads")

    def after_step(self, learner, batch, out):
        self._maybe(learner, "after_step")

    def after_task(self, learner, task, loader):
        self._maybe(learner, "after_task")


def flat(learner):
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


def memory_part(learner):
    return next(part for part in learner.parts if hasattr(part, "memory_"))


def double(model):
    """A copy in float64 that takes the same batches."""
    return copy.deepcopy(model).double()


def state_of(learner):
    """Every tensor and number of the model and the parts, by its place."""
    found = {f"model.{name}": value for name, value in learner.model.state_dict().items()}
    stack = [("parts", [part.state_dict() for part in learner.parts])]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            stack += [(f"{place}.{i}", item) for i, item in enumerate(value)]
        else:
            found[place] = value
    return found
