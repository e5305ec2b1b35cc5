"""From arrays to a timed call: parameters with gradients, tasks, and the answer for the gate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.families.quadratic.cases import Case
from benchmarks.families.quadratic.truth import cut, summary
from benchmarks.peer import Inputs, Prepared


@dataclass
class Task:
    """What a penalty keeps of one task: flat, and as the lists of a model's parameters."""

    flat_anchor: Tensor
    flat_weight: Tensor
    anchor: list[Tensor]
    weight: list[Tensor]


def tasks_of(case: Case, inputs: Inputs, device: str) -> list[Task]:
    """The tasks of a case; on the CPU they are views of the mapped files."""
    distinct = [
        _task(case, *(_tensor(inputs.arrays[f"{kind}{t}"], device) for kind in ("anchor", "weight")))
        for t in range(case.distinct)
    ]
    return [distinct[t % case.distinct] for t in range(case.T)]


def _task(case: Case, anchor: Tensor, weight: Tensor) -> Task:
    return Task(anchor, weight, cut(case.model, anchor), cut(case.model, weight))


def _tensor(array, device: str) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array).to(device)


def fold(case: Case, tasks: list[Task]) -> tuple[Task, float]:
    """All tasks as one, and the constant."""
    from pyfast_mmcl.ops.fisher import fold_quadratics

    anchor, weight = ([torch.zeros_like(x) for x in tasks[0].anchor] for _ in range(2))
    constant = 0.0
    for task in tasks:
        anchor, weight, constant = fold_quadratics(anchor, weight, task.anchor, task.weight, constant)
    flat = (torch.cat([x.view(-1) for x in parts]) for parts in (anchor, weight))
    return _task(case, *flat), 0.5 * constant


def prepared(case: Case, inputs: Inputs, options: dict, penalty: Callable) -> Prepared:
    """`penalty(params, tasks)` returns the value and leaves gradients in the parameters. Folding is done before: it
    happens once per task, a penalty once per step."""
    device = options.get("device", "cpu")
    params = [p.clone().requires_grad_() for p in cut(case.model, _tensor(inputs.arrays["current"], device))]
    tasks, constant = tasks_of(case, inputs, device), 0.0
    if options.get("folded"):
        folded, constant = fold(case, tasks)
        tasks = [folded]

    def run() -> Tensor:
        for p in params:
            p.grad = None
        return penalty(params, tasks)

    def arrays(value: Tensor) -> dict:
        return summary(float(value) + constant, [p.grad for p in params])

    return Prepared(run, arrays, held=8 * case.P * len(tasks), backend=device)
