"""Opacus: per-sample gradients of all layers, squared and summed. Kept aside (benchmarks/aside.py): its wheel brings a
package named `benchmarks`."""

from __future__ import annotations

from benchmarks import aside
from benchmarks.families.fisher.call import prepared
from benchmarks.families.fisher.gate import FLOAT32_TOLERANCE
from benchmarks.families.fisher.truth import FISHER
from benchmarks.peer import Inputs, Prepared, Unsupported, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return aside.unavailable("opacus", "opacus")


def versions() -> dict[str, str]:
    return version_of("opacus", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from opacus import GradSampleModule

    if case.model.startswith("resnet18"):
        raise Unsupported("Opacus refuses BatchNorm")
    # A module with parameters of its own, as the ViT with its class token, it takes through vmap as a whole. Only a
    # model in training mode is recorded; these have nothing that behaves otherwise there.
    return prepared(
        case, inputs, options, FISHER, squares, wrap=lambda model: GradSampleModule(model.train(), loss_reduction="sum")
    )


def squares(model, batches) -> list:
    import torch
    import torch.nn.functional as F

    totals, count = [torch.zeros_like(p) for p in model.parameters()], 0
    for x, y in batches:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y, reduction="sum").backward()
        count += len(x)
        for total, p in zip(totals, model.parameters(), strict=True):
            total += p.grad_sample.square().sum(0)
            p.grad_sample = None
    return [total / count for total in totals]
