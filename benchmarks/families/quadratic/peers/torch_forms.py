"""The penalty in plain torch without autograd, value and gradient written by hand: over lists of tensors with
`torch._foreach_*`, or over one flat tensor."""

from __future__ import annotations

from benchmarks.families.quadratic.call import prepared
from benchmarks.families.quadratic.gate import DOT_TOLERANCE
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = DOT_TOLERANCE


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    return prepared(case, inputs, options, {"foreach": foreach, "flat": flat}[options.get("form", "foreach")])


def foreach(params, tasks):
    import torch

    total, gradients = 0.0, None
    with torch.no_grad():
        for task in tasks:
            distances = torch._foreach_sub(params, task.anchor)
            pulls = torch._foreach_mul(distances, task.weight)
            total = total + sum(torch.dot(g.view(-1), d.view(-1)) for g, d in zip(pulls, distances, strict=True))
            if gradients is None:
                gradients = pulls
            else:
                torch._foreach_add_(gradients, pulls)
    for p, gradient in zip(params, gradients, strict=True):
        p.grad = gradient
    return 0.5 * total


def flat(params, tasks):
    """The parameters are gathered once per call; their gradients are views of the flat one."""
    import torch

    total, gradient = 0.0, None
    with torch.no_grad():
        current = torch.cat([p.view(-1) for p in params])
        for task in tasks:
            distance = current - task.flat_anchor
            pull = distance * task.flat_weight
            total = total + torch.dot(pull, distance)
            gradient = pull if gradient is None else gradient.add_(pull)
    for p, part in zip(params, gradient.split([p.numel() for p in params]), strict=True):
        p.grad = part.view(p.shape)
    return 0.5 * total
