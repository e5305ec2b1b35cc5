"""From arrays to a timed call: the model, its batches, and the answer for the gate."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.families.fisher.cases import Case
from benchmarks.families.fisher.models import build
from benchmarks.families.fisher.truth import sampled
from benchmarks.peer import Inputs, Prepared


def prepared(
    case: Case,
    inputs: Inputs,
    options: dict,
    kind: str,
    measure: Callable,
    *,
    wrap: Callable = lambda model: model,
    backend: str = "",
) -> Prepared:
    """`measure(model, batches)` returns one tensor per parameter; `wrap` makes a library's model of ours, once."""
    device = options.get("device", "cpu")
    model = wrap(build(case.model).to(device))
    x, y = (torch.tensor(inputs.arrays[name], device=device) for name in ("x", "y"))
    batches = list(zip(x.split(case.B), y.split(case.B), strict=True))
    measure(model, [(x[:2], y[:2])])  # untimed: libraries load what they load once

    def run() -> list:
        for parameter in model.parameters():
            parameter.grad = None
        return measure(model, batches)

    return Prepared(run, lambda result: {kind: sampled(result)}, backend=backend or device)
