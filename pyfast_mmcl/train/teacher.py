"""A frozen copy of the model as it was: what methods of distillation learn from."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import Growing, Output

# Models that a resumed run has grown, as they were before: the copy of an earlier task has less than they have now.
_before_growth: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()


def remember_before_growth(model: nn.Module, parts: list[dict[str, Any]]) -> None:
    """Keep ``model`` as it is for the teachers whose weights the states of ``parts`` hold, where there are any."""
    if any("weights" in state and state.get("structure") is not None for state in _nested(parts)):
        _before_growth[model] = copy.deepcopy(model)


def _nested(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from _nested(item)


class Teacher:
    """Nobody at first; after ``take`` the model as it then was, in evaluation mode and without gradients."""

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        # Of a checkpoint, until there is a model to put them in.
        self._weights: dict[str, Tensor] | None = None
        self._structure: Any = None

    def __bool__(self) -> bool:
        return self._model is not None or self._weights is not None

    def take(self, model: nn.Module) -> None:
        """Keep a copy of ``model`` as it is now."""
        self._model, self._weights = copy.deepcopy(model), None
        self._structure = model.structure() if isinstance(model, Growing) else None
        self._model.eval().requires_grad_(False)

    def model(self, like: nn.Module) -> nn.Module:
        """The frozen copy; ``like`` is the model that it was taken of, as it is now. Raises InputError without one."""
        if self._model is not None:
            return self._model
        if self._weights is None:
            raise InputError("teacher: there is none yet; it is the model of an earlier task.")
        copied = copy.deepcopy(_before_growth.get(like, like))
        if isinstance(copied, Growing):
            # New modules draw first weights, which the kept ones replace: the run's random numbers are not touched.
            with torch.random.fork_rng(devices=[]):
                copied.restructure(self._structure)
        copied.to(next(like.parameters()).device).eval().requires_grad_(False)
        # The model may have grown since, a head by new rows; the copy has the shapes it was taken with.
        for name, x in copied.state_dict(keep_vars=True).items():
            if name in self._weights and x.shape != self._weights[name].shape:
                x.data = x.new_zeros(self._weights[name].shape)
        copied.load_state_dict(self._weights)
        self._model, self._weights = copied, None
        return copied

    @torch.no_grad()
    def __call__(self, batch: Batch, like: nn.Module) -> Output:
        """What the frozen copy answers for ``batch``, scores in float32 at least."""
        out = self.model(like)(batch)
        out = out if isinstance(out, Output) else Output(out)
        low = out.scores.dtype in (torch.float16, torch.bfloat16)
        return replace(out, scores=out.scores.float()) if low else out

    def state_dict(self) -> dict[str, Any]:
        weights = self._weights if self._model is None else dict(self._model.state_dict())
        return {} if weights is None else {"weights": weights, "structure": self._structure}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._model, self._weights, self._structure = None, state.get("weights"), state.get("structure")
