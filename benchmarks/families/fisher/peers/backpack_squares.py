"""BackPACK: its SumGradSquared extension. Kept aside (benchmarks/aside.py): with it comes a package named `test`."""

from __future__ import annotations

from benchmarks import aside
from benchmarks.families.contrastive import torchvision_operators
from benchmarks.families.fisher.call import prepared
from benchmarks.families.fisher.gate import FLOAT32_TOLERANCE
from benchmarks.families.fisher.truth import FISHER
from benchmarks.peer import Inputs, Prepared, Unsupported, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    reason = missing("torch", install="torch")
    if reason:
        return reason
    torchvision_operators.declare()
    return aside.unavailable("backpack", "backpack")


def versions() -> dict[str, str]:
    return version_of("backpack-for-pytorch", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    torchvision_operators.declare()
    from backpack import extend

    if case.model.startswith("vit"):
        raise Unsupported(
            "BackPACK has no extension for LayerNorm, nor for a class token that is a parameter of its own"
        )
    return prepared(case, inputs, options, FISHER, squares, wrap=extend)


def squares(model, batches) -> list:
    import torch
    from backpack import backpack, extend
    from backpack.extensions import SumGradSquared

    loss = extend(torch.nn.CrossEntropyLoss(reduction="sum"))
    totals, count = [torch.zeros_like(p) for p in model.parameters()], 0
    for x, y in batches:
        model.zero_grad()
        with backpack(SumGradSquared()):
            loss(model(x), y).backward()
        count += len(x)
        for total, p in zip(totals, model.parameters(), strict=True):
            total += p.sum_grad_squared
    return [total / count for total in totals]
