"""Loops over plain torch: the training step all are measured against, the two loops of Avalanche's EWC restated
(batch of one, and its default of squaring the mean gradient of a batch, which is not the Fisher), and vmap(grad)."""

from __future__ import annotations

from benchmarks.families.fisher.call import prepared
from benchmarks.families.fisher.gate import FLOAT32_TOLERANCE
from benchmarks.families.fisher.truth import BATCH, FISHER, GRADIENT
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE
VMAP_FLOATS = 1 << 28  # of per-sample gradients alive at once: 1 GiB


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    ways = {"step": (GRADIENT, step), "single": (FISHER, single), "batch": (BATCH, batch), "vmap": (FISHER, by_vmap)}
    kind, measure = ways[options.get("how", "single")]
    return prepared(case, inputs, options, kind, measure)


def _loss(model, x, y):
    import torch.nn.functional as F

    return F.cross_entropy(model(x), y)


def step(model, batches) -> list:
    """Forward and backward over every batch; the mean gradient."""
    for x, y in batches:
        (_loss(model, x, y) / len(batches)).backward()
    return [p.grad for p in model.parameters()]


def _squares(model, batches) -> list:
    """Mean over batches of the squared mean gradient, one parameter after the other."""
    import torch

    totals = [torch.zeros_like(p) for p in model.parameters()]
    for x, y in batches:
        model.zero_grad()
        _loss(model, x, y).backward()
        for total, p in zip(totals, model.parameters(), strict=True):
            total += p.grad.data.clone().pow(2)
    return [total / len(batches) for total in totals]


def single(model, batches) -> list:
    return _squares(model, [pair for x, y in batches for pair in zip(x.split(1), y.split(1), strict=True)])


def batch(model, batches) -> list:
    return _squares(model, batches)


def by_vmap(model, batches) -> list:
    """Per-sample gradients of a part of a batch at a time, as many as fit into a gibibyte."""
    import torch
    from torch.func import functional_call, grad, vmap

    params = {name: p.detach() for name, p in model.named_parameters()}
    buffers = dict(model.named_buffers())

    def loss(values, x, y):
        return _loss(lambda rows: functional_call(model, (values, buffers), (rows,)), x[None], y[None])

    per_sample = vmap(grad(loss), in_dims=(None, 0, 0))
    part = max(1, VMAP_FLOATS // sum(p.numel() for p in params.values()))
    totals, count = {name: torch.zeros_like(p) for name, p in params.items()}, 0
    for x, y in batches:
        count += len(x)
        for some_x, some_y in zip(x.split(part), y.split(part), strict=True):
            for name, g in per_sample(params, some_x, some_y).items():
                totals[name] += g.square().sum(0)
    return [total / count for total in totals.values()]
