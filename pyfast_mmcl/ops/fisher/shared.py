"""Tensors made of parameters alone: the same for every sample, so autograd would sum their gradient over the batch.

A parameter, a slice of it, its transpose, `exp` of it, a product of two of them … Each has a *shadow*, the same value
with a small autograd graph back to the parameters, through which per-sample gradients are pulled when they are asked
for. The model itself sees detached values, so its backward pass never forms a weight gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# An element stays itself under these, so an accumulator of the parent serves the child.
SAME_ELEMENTS = ("to", "float", "double", "half", "bfloat16", "type", "type_as", "contiguous", "clone")


@dataclass(frozen=True)
class Region:
    """A strided view of one parameter of shape ``whole``; the offset counts from the parameter's first element."""

    name: str
    size: torch.Size
    stride: tuple[int, ...]
    offset: int
    whole: torch.Size

    def of(self, accumulator: Tensor) -> Tensor:
        """The same elements of an accumulator that has the parameter's strides (batch dimensions may lead)."""
        lead = accumulator.ndim - len(self.whole)
        size = (*accumulator.shape[:lead], *self.size)
        stride = (*accumulator.stride()[:lead], *self.stride)
        return accumulator.as_strided(size, stride, accumulator.storage_offset() + self.offset)


@dataclass(eq=False)
class Shared:
    """One such tensor. key: its name in messages; leaves: the parameters it is made of; region: None unless a view."""

    key: str
    value: Tensor
    shadow: Tensor
    leaves: tuple[str, ...]
    region: Region | None


class SharedTensors:
    """All shared tensors of one forward pass, found by identity.

    traced: computed ones require a gradient as parameters do, so that autograd finds uses of them that are not seen.
    """

    def __init__(self, params: Mapping[str, Tensor], traced: bool = False) -> None:
        self.params = dict(params)
        self._traced = traced
        self._found: dict[int, Shared] = {}
        self.leaves: dict[str, Shared] = {}
        for name, p in params.items():
            shadow = p.detach().requires_grad_()
            region = Region(name, p.shape, p.stride(), 0, p.shape)
            self.leaves[name] = self._add(Shared(name, p, shadow, (name,), region))

    def _add(self, shared: Shared) -> Shared:
        self._found[id(shared.value)] = shared
        return shared

    def find(self, x: object) -> Shared | None:
        """The record of ``x``, or None when it is an ordinary tensor."""
        return self._found.get(id(x))

    def among(self, tensors: list[Tensor]) -> list[Shared]:
        """The records of those that are shared, each once, in order."""
        records = [s for t in tensors if (s := self._found.get(id(t))) is not None]
        return records if len(records) < 2 else list(dict.fromkeys(records))

    def found(self) -> list[Shared]:
        """All of them."""
        return list(self._found.values())

    def derive(self, key: str, function: Callable, args: Any, kwargs: Any, parents: list[Shared]) -> Any:
        """Run a function of shared tensors on their shadows; its differentiable results are shared tensors too."""
        versions = [p.shadow._version for p in parents]
        with torch.enable_grad():
            result = function(*replace(args, self._shadow), **replace(kwargs, self._shadow))
        for p, version in zip(parents, versions, strict=True):
            if p.shadow._version != version:
                self._overwritten(p, parents)
        count = 0

        def register(x: Any) -> Any:
            nonlocal count
            if not isinstance(x, Tensor) or not x.requires_grad:
                return x
            known = next((p for p in parents if p.shadow is x), None)
            if known is not None:
                return known.value
            count += 1
            region = _region(getattr(function, "__name__", ""), x, parents, self.params)
            leaves = tuple(dict.fromkeys(name for p in parents for name in p.leaves))
            value = x.detach().requires_grad_(self._traced)
            return self._add(Shared(f"{key}[{count}]", value, x, leaves, region)).value

        return replace(result, register)

    def _overwritten(self, changed: Shared, parents: list[Shared]) -> None:
        """Everything in the memory of a tensor changed in place is computed from now on, not a view of a parameter."""
        memory = changed.shadow.untyped_storage().data_ptr()
        names = [name for p in parents for name in p.leaves]
        for s in self._found.values():
            if s.shadow.untyped_storage().data_ptr() == memory:
                s.region, s.leaves = None, tuple(dict.fromkeys((*s.leaves, *names)))

    def _shadow(self, x: Any) -> Any:
        shared = self._found.get(id(x))
        return x if shared is None else shared.shadow


def _region(function: str, x: Tensor, parents: list[Shared], params: Mapping[str, Tensor]) -> Region | None:
    """Which elements of its one parameter ``x`` consists of, or None when it is computed from them."""
    parent = parents[0]
    if len(parents) != 1 or parent.region is None:
        return None
    if function in SAME_ELEMENTS and x.shape == parent.value.shape:
        return parent.region
    param = params[parent.region.name]
    if x.untyped_storage().data_ptr() != param.untyped_storage().data_ptr() or 0 in x.stride():
        return None
    offset = int(x.storage_offset() - param.storage_offset())
    return Region(parent.region.name, x.shape, x.stride(), offset, param.shape)


def replace(tree: Any, change: Callable[[Any], Any]) -> Any:
    """``tree`` (nested tuples, lists and dicts) with ``change`` applied to every other value."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(replace(x, change) for x in tree))
    if type(tree) in (list, tuple):
        return type(tree)(replace(x, change) for x in tree)
    if type(tree) is dict:
        return {k: replace(x, change) for k, x in tree.items()}
    if isinstance(tree, tuple) and not isinstance(tree, torch.Size):
        return type(tree)(replace(x, change) for x in tree)  # torch.return_types
    return change(tree)


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors of nested tuples, lists and dicts, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if isinstance(tree, (list, tuple, dict)):
        for x in tree.values() if isinstance(tree, dict) else tree:
            if isinstance(x, Tensor):
                found.append(x)
            elif isinstance(x, (list, tuple, dict)):
                found += tensors_in(x)
    return found
