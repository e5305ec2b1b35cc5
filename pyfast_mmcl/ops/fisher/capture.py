"""Sees every torch function that reads a parameter, and catches the gradient of what it returns.

Weight gradients are never asked for: while a batch runs, parameters do not require a gradient. The graph starts at the
first result that depends on one of them, so forward plus backward costs a training step less its weight gradients.
"""

from __future__ import annotations

import functools
import types
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..._errors import InputError
from .calls import Call
from .plan import Plan, Shapes
from .shared import Shared, SharedTensors, replace, tensors_in

# These lose the value that the gradient of their parameter needs.
OVERWRITING = ("mul_", "__imul__", "div_", "__itruediv__")
OPERATORS = ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__")
# Functions whose results have as many rows as the data says, and those that may put rows into another order.
SELECTING = {"masked_select", "nonzero", "argwhere", "unique", "unique_consecutive", "repeat_interleave"}
SELECTING |= {"_pack_padded_sequence", "_unique2", "unique_dim", "where", "__getitem__"}
MOVING = {"index_select", "gather", "take_along_dim", "take", "sort", "argsort", "topk"}
WATCHED = SELECTING | MOVING


class Capture(TorchFunctionMode):
    """While active, ``calls`` collects the calls that mix parameters with data; ``on_grad`` gets their gradients.

    traced: autograd finds uses of parameters, and of what is made of them, that were not seen here.
    """

    def __init__(
        self,
        params: Mapping[str, Tensor],
        plan: Plan,
        on_grad: Callable[[Call, list[Tensor | None]], None],
        traced: bool = False,
    ) -> None:
        super().__init__()
        self.shared = SharedTensors(params, traced)
        self.calls: list[Call] = []
        self.shapes: dict[str, Shapes] = {}
        # calls on something that was computed from samples and yet is the same for all: a statistic over the batch
        self.mixed: list[str] = []
        # whether rows were picked by their data: as many as the data says, or in another order
        self.selected, self.moved = False, False
        # the parameters that were read
        self.touched: set[str] = set()
        # rounding of the coarsest numbers in use
        self.coarsest = 0.0
        some = next(iter(params.values()), None)
        self.anchor = torch.zeros((), device=None if some is None else some.device, requires_grad=True)
        self._traced = traced
        self._plan, self._on_grad, self._uses = plan, on_grad, Counter[str]()

    def __torch_function__(self, function: Callable, kinds: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = tensors_in((args, kwargs) if kwargs else args)
        targets = self.shared.among(tensors)
        if not targets or not torch.is_grad_enabled():
            if getattr(function, "__name__", "") in WATCHED:
                self._note_rows(function.__name__, args)
            return function(*args, **kwargs)
        if isinstance(function, types.FunctionType) and function.__module__ == "torch.nn.functional":
            with self:
                return body(function)(*args, **kwargs)
        key = self._key(function, targets)
        self.touched.update(name for s in targets for name in s.leaves)
        alone = all(self.shared.find(t) is not None for t in tensors)
        shared = self._plan.is_shared(key, alone)
        refuse_writes(key, function, shared, self.shared.find(args[0]) is None if args else True, kwargs)
        if shared:
            if any(t.requires_grad and self.shared.find(t) is None for t in tensors):
                self.mixed.append(key)
            result = self.shared.derive(key, function, args, kwargs, targets)
            self._see(key, tensors, result, True)
            return result
        call = Call(key, function, args, kwargs, targets, self._plan)
        if call.name in OVERWRITING:
            call.args = (args[0].detach().clone(), *args[1:])
        if self._traced:
            args, kwargs = replace(args, self._constant), replace(kwargs, self._constant)
        result = function(*args, **kwargs)
        if any(t.is_complex() for t in tensors_in(result)):
            raise InputError(
                f"{key}: a parameter meets complex numbers here, whose gradients are not followed; write the product "
                "with real numbers, or leave it out with params=."
            )
        self._see(key, tensors, result, False)
        return self._tap(call, result, tensors)

    def _note_rows(self, name: str, args: tuple) -> None:
        """Whether rows are picked by the data: `Owners` then makes sure whose they are."""
        if name == "__getitem__":
            index = tensors_in((args[1],))
            masks = any(t.dtype in (torch.bool, torch.uint8) for t in index)
            self.selected, self.moved = self.selected or masks, self.moved or bool(index)
        elif name in MOVING:
            self.moved = True
        elif name != "where" or len(args) == 1:
            self.selected = self.moved = True

    def _key(self, function: Callable, targets: list[Shared]) -> str:
        name = f"{getattr(function, '__name__', function)}({', '.join(t.key for t in targets)})"
        self._uses[name] += 1
        return name if self._uses[name] == 1 else f"{name} use {self._uses[name]}"

    def _constant(self, x: Any) -> Any:
        """A parameter as a constant: its gradient is formed here, so whatever autograd still finds was not seen."""
        return x.detach() if self.shared.find(x) is not None and x.requires_grad else x

    def _see(self, key: str, tensors: list[Tensor], result: Any, shared: bool) -> None:
        if not self._traced:
            return
        results = tensors_in(result)
        for t in results:
            if t.is_floating_point():
                self.coarsest = max(self.coarsest, torch.finfo(t.dtype).eps)
        if results:
            self.shapes[key] = Shapes([t.shape for t in tensors], [t.shape for t in results], shared)

    def _tap(self, call: Call, result: Any, tensors: list[Tensor]) -> Any:
        """``result`` with a hook on every floating tensor; one that needs no gradient yet becomes the graph's start."""
        inputs = {id(t) for t in tensors}
        several = not isinstance(result, Tensor) and len(tensors_in(result)) > 1
        tapped: list[Tensor] = []

        def tap(x: Any) -> Any:
            if not isinstance(x, Tensor) or not x.is_floating_point():
                return x
            if x.requires_grad and (several or x._is_view()) and id(x) not in inputs:
                # a node of its own: an operation in place on a view would lead the gradient past the view's node, and
                # one of several results may be a step on the way to another
                x = torch.ops.aten._unsafe_view(x, x.shape)
            if not x.requires_grad:
                start = _StartOfView if x._is_view() and call.shares_memory(x) else _Start
                x = start.apply(x if id(x) in inputs else x.detach(), self.anchor)
            tapped.append(x)
            return x

        result = replace(result, tap)
        call.freeze()
        self.calls.append(call)
        if len(tapped) == 1:
            # at the node, not at the tensor: an operation in place would take the tensor's hook with it
            place = tapped[0].output_nr
            tapped[0].grad_fn.register_prehook(lambda grads: self._take(call, [grads[place]]))
        elif tapped:
            torch.autograd.graph.register_multi_grad_hook(tapped, lambda grads: self._take(call, list(grads)))
        return result

    def close(self) -> None:
        """Let go of all tensors: hooks lead from the graph to this object, and must not lead back to the graph."""
        for call in self.calls:
            call.release()
        self.calls.clear()

    def _take(self, call: Call, grads: list[Tensor | None]) -> None:
        if any(g is not None for g in grads):
            self._on_grad(call, grads)


def refuse_writes(key: str, function: Callable, shared: bool, foreign: bool, kwargs: Mapping[str, Any]) -> None:
    """Raise InputError when a parameter is written into a tensor, which then holds it unseen.

    foreign: the tensor written to is not made of parameters itself.
    """
    name = getattr(function, "__name__", "")
    item = name == "__setitem__" and (foreign or not shared)
    in_place = (name.endswith("_") and not name.endswith("__")) or name in OPERATORS
    if item or (in_place and foreign and shared) or kwargs.get("out") is not None:
        raise InputError(
            f"{key}: writes a parameter into another tensor, where its gradient is lost sight of; "
            "build that tensor with torch.cat, torch.stack or torch.where."
        )


class _Start(torch.autograd.Function):
    """The same tensor, from here on part of the graph. In place, so that nothing is copied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _StartOfView(torch.autograd.Function):
    """As `_Start` for a view, perhaps of a parameter, whose memory is not marked as changed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


@functools.cache
def body(function: types.FunctionType) -> Callable:
    """A function of torch.nn.functional without its own look at overrides, so that its inner calls are seen."""
    names = {**function.__globals__}
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
        names[name] = lambda *_: False
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
