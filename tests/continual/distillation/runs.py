"""Runs of the distillation methods, looked at in every step beside the model as it was before the task."""

import copy

import torch

from pyfast_mmcl.train import Part
from tests.continual.regularization.truth import make, small_stream

__all__ = ["Look", "first_steps", "fitted_with", "make", "small_stream"]


class Look(Part):
    """Calls ``look(learner, batch, out, terms, old)`` in every step after the first task, in float64.

    old is the model before the task, terms {part: its term}. ``firsts`` holds the terms of the first step of each task.
    """

    def __init__(self, look=None):
        self.look, self.old, self.firsts, self.looked, self.started = look, None, [], 0, False

    def before_task(self, learner, task):
        self.old = copy.deepcopy(learner.model).double().eval() if task.id else None
        self.started = False

    def loss(self, learner, batch, out):
        terms = {part.name: part.loss(learner, batch, out) for part in learner.parts if part is not self}
        if not self.started:
            self.firsts.append(terms)
        self.started = True
        if self.old is not None and self.look is not None:
            with torch.no_grad():
                self.look(learner, batch, out, terms, self.old)
            self.looked += 1
        return None


def fitted_with(look, stream, method, **settings):
    watch = Look(look)
    learner = make(stream, method, watch, **settings)
    learner.fit(stream)
    return learner, watch


def doubled(batch):
    """The batch with its numbers in float64."""
    inputs = {m: x.double() if x.is_floating_point() else x for m, x in batch.inputs.items()}
    return type(batch)(inputs, batch.target, batch.task, batch.present, batch.index, batch.fresh)


def first_steps(stream, method, **settings):
    """The terms of the first step of every task: the model is its own teacher there."""
    _, watch = fitted_with(None, stream, method, **settings)
    return watch.firsts
