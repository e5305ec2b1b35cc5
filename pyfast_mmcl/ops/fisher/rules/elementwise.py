"""Parameters that broadcast over the batch: class tokens, position embeddings, scales, layer scale.

The parameter is given a batch dimension and the function runs once more, so its gradient comes out per sample.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..calls import Call
from ..contributions import Contribution, Dense
from ..shared import Shared, replace

Parts = list[tuple[Shared, Contribution]]

# The gradient of a sum does not need the value that was overwritten; of a product it was kept (see capture.py).
IN_PLACE: dict[str, Callable] = {
    **{"add_": torch.add, "__iadd__": torch.add, "sub_": torch.sub, "__isub__": torch.sub},
    **{"mul_": torch.mul, "__imul__": torch.mul, "div_": torch.div, "__itruediv__": torch.div},
}


def broadcast(call: Call, grads: list[Tensor]) -> Parts | None:
    """Elementwise functions and `expand`: G = ∂f/∂p with p repeated over the batch, summed within each sample."""
    g = grads[0]
    layout = call.out_layout(g)
    wide = {}
    for target in call.targets:
        shape = [1] * (g.ndim - target.value.ndim) + list(target.value.shape)
        if shape[layout.dim] != 1:
            return None
        repeated = list(shape)
        repeated[layout.dim] = g.shape[layout.dim]
        wide[id(target.value)] = target.value.detach().reshape(shape).expand(repeated).requires_grad_()
    function = IN_PLACE.get(call.name, call.function)

    def change(x: object) -> object:
        return wide.get(id(x), x.detach() if isinstance(x, Tensor) else x)

    with torch.enable_grad():
        result = function(*replace(call.args, change), **replace(call.kwargs, change))
    found = torch.autograd.grad(result, list(wide.values()), g)
    return [
        (target, Dense(layout.rows(x, call.samples).sum(1 + layout.dim).reshape(-1, *target.value.shape)))
        for target, x in zip(call.targets, found, strict=True)
    ]


def prelu(call: Call, grads: list[Tensor]) -> Parts | None:
    """The slope of the negative side, one for all or one per channel [N, C, …]."""
    x, weight = call.bind("input", "weight")
    target = call.target(weight)
    if target is None or call.target(x) is not None or x.ndim < 2:
        return None
    layout = call.out_layout(grads[0])
    rows = layout.rows(grads[0] * x.detach().clamp_max(0), call.samples)
    kept = () if weight.numel() == 1 else (2,)
    return [(target, Dense(rows.sum([d for d in range(1, rows.ndim) if d not in kept]).reshape(-1, *weight.shape)))]


def repeat(call: Call, grads: list[Tensor]) -> Parts | None:
    """`repeat` and `tile` along the batch: the copies of a sample add."""
    (target,) = call.targets
    g = call.out_rows(grads[0])
    shape = [1] * (g.ndim - 1 - target.value.ndim) + list(target.value.shape)
    for dim, size in enumerate(shape, 1):
        g = g.unflatten(dim, (-1, size)).sum(dim)
    return [(target, Dense(g.reshape(-1, *target.value.shape)))]
