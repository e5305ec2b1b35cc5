"""Any function of parameters and data: run again sample by sample under vmap, this one function only."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from ...._errors import InputError
from ..calls import Call
from ..contributions import Contribution, Dense
from ..shared import Shared, replace, tensors_in

# Floats of per-sample gradients formed at once.
BUDGET = 1 << 24


def fallback(call: Call, grads: list[Tensor | None]) -> Iterable[tuple[Shared, Contribution]]:
    """Per-sample gradients of a function without a closed form."""
    if (call.name.endswith("_") and not call.name.endswith("__")) or call.name.startswith("__i"):
        raise InputError(
            f"{call.key}: changes its input in place, which leaves nothing to form per-sample gradients from; "
            "use the out-of-place form of that operation."
        )
    warnings.warn(
        f"fisher: no closed form for {call.key}; its per-sample gradients are formed one by one, which is slow.",
        stacklevel=2,
    )
    rows = {id(t): r for t in call.tensors if call.target(t) is None and (r := call.rows(t)) is not None}
    try:
        values = _by_sample(call, grads, rows) if rows else _spread(call, grads)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{call.key}: has no closed form here and cannot run sample by sample ({str(error).splitlines()[0]}); "
            "leave its parameters out with params=."
        ) from error
    return [(target, Dense(v)) for target, v in zip(call.targets, values, strict=True)]


def _call_on(call: Call, values: dict[int, Tensor], kept: list[int]) -> tuple[Tensor, ...]:
    """The results number ``kept`` of the call with some of its tensors replaced."""

    def change(x: Any) -> Any:
        return values.get(id(x), x)

    result = call.function(*replace(call.args, change), **replace(call.kwargs, change))
    floating = [t for t in tensors_in(result) if t.is_floating_point()]
    return tuple(floating[i] for i in kept)


def _by_sample(call: Call, grads: list[Tensor | None], rows: dict[int, Tensor]) -> list[Tensor]:
    seeds = {i: g for i, g in enumerate(grads) if g is not None}
    cotangents = tuple(call.out_rows(g, i) for i, g in seeds.items())
    params = tuple(t.value.detach() for t in call.targets)
    ids = [id(t.value) for t in call.targets]

    def one(sample: tuple[Tensor, ...], cotangent: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        data = dict(zip(rows, sample, strict=True))

        def run(*values: Tensor) -> tuple[Tensor, ...]:
            return _call_on(call, {**data, **dict(zip(ids, values, strict=True))}, list(seeds))

        return torch.func.vjp(run, *params)[1](cotangent)

    chunk = max(1, BUDGET // max(1, sum(p.numel() for p in params)))
    return list(torch.func.vmap(one, chunk_size=chunk)(tuple(rows.values()), cotangents))


def _spread(call: Call, grads: list[Tensor | None]) -> list[Tensor]:
    """Parameters repeated over the batch by a function without data: one cotangent per sample, zero elsewhere."""
    seeds = {i: g for i, g in enumerate(grads) if g is not None}
    leaves = [t.value.detach().requires_grad_() for t in call.targets]
    with torch.enable_grad():
        results = _call_on(call, {id(t.value): x for t, x in zip(call.targets, leaves, strict=True)}, list(seeds))
    found: list[list[Tensor]] = [[] for _ in leaves]
    for b in range(call.samples):
        cotangents = []
        for i, g in seeds.items():
            alone = torch.zeros_like(g)
            call.out_layout(g, i).rows(alone, call.samples)[b] = call.out_rows(g, i)[b]
            cotangents.append(alone)
        pulled = torch.autograd.grad(results, leaves, cotangents, retain_graph=True, materialize_grads=True)
        for values, grad in zip(found, pulled, strict=True):
            values.append(grad)
    return [torch.stack(values) for values in found]
