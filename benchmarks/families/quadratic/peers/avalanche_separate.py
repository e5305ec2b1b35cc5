"""The penalty of Avalanche's EWC in its default mode, restated: for every earlier task and every named parameter the
weighted squared distance, one after the other, and the gradient of their sum by autograd."""

from __future__ import annotations

from benchmarks.families.quadratic.call import prepared
from benchmarks.families.quadratic.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE
STRENGTH = 0.5  # there the factor ½ belongs to the user's λ


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    return prepared(case, inputs, options, separate)


def separate(params, tasks):
    """Anchors and importances are looked up by name, as there."""
    import torch

    total = torch.zeros((), device=params[0].device)
    named = [(str(i), p) for i, p in enumerate(params)]
    for task in tasks:
        anchors = {name: a for (name, _), a in zip(named, task.anchor, strict=True)}
        importances = {name: w for (name, _), w in zip(named, task.weight, strict=True)}
        for name, p in named:
            if name not in anchors:
                continue
            distance = p - anchors[name].expand(p.shape)
            total = total + (importances[name].expand(p.shape) * distance.pow(2)).sum()
    loss = STRENGTH * total
    loss.backward()
    return loss.detach()
