"""What all ranks of a ring must agree on, checked before the first block travels.

A mistake on one rank must not leave the others waiting: every rank says what it has, or what is wrong with it, in one
message of fixed size, and all of them raise the same sentence.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..._errors import BackendError, InputError
from ._ring_inputs import Own
from ._ring_wire import Wire

# every character of the problem may take six bytes in ASCII JSON
_BYTES, _PROBLEM = 2048, 300


@dataclass(frozen=True)
class Shares:
    """How the rows of the two sides are spread over the ranks."""

    rows: list[int]  # N of every rank
    cols: list[int]  # M of every rank

    def row_offset(self, rank: int) -> int:
        """Place of the first row of ``rank`` among all rows."""
        return sum(self.rows[:rank])

    def col_offset(self, rank: int) -> int:
        """Place of the first column of ``rank`` among all columns."""
        return sum(self.cols[:rank])


def agree(wire: Wire, op: str, prepare: Callable[[], Own]) -> tuple[Own, Shares]:
    """Run ``prepare`` and compare what it says with the other ranks; InputError on every rank if one disagrees.

    An error of ``prepare`` on one rank is raised on that rank as it is, and named on the others.
    """
    failure: InputError | BackendError | None = None
    try:
        own = prepare()
        wire.check_device(own.a.device)
        said: dict[str, Any] = {"op": op, "equal": own.equal, "rows": [own.a.shape[0], own.b.shape[0]]}
    except (InputError, BackendError) as error:
        failure, said = error, {"op": op, "problem": str(error)[:_PROBLEM]}
    answers = _exchange(wire, said)
    if failure is not None:
        raise failure
    problem = _disagreement(op, answers)
    if problem:
        raise InputError(problem)
    return own, Shares([a["rows"][0] for a in answers], [a["rows"][1] for a in answers])


def _exchange(wire: Wire, said: dict[str, Any]) -> list[dict[str, Any]]:
    text = json.dumps(said).encode("ascii")
    device = "cuda" if wire.needs_cuda else "cpu"
    message = torch.zeros(_BYTES, dtype=torch.uint8)
    message[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    parts = wire.gather(message.to(device))
    return [json.loads(bytes(part.tolist()).rstrip(b"\0")) for part in parts]


def _disagreement(op: str, answers: list[dict[str, Any]]) -> str:
    """The sentence about the first thing on which the ranks differ, or an empty text."""
    where = f"{op} over {len(answers)} processes"
    for rank, answer in enumerate(answers):
        if "problem" in answer and answer["op"] == op:
            return f"{where}: rank {rank} reports: {answer['problem']}"
    ops = [answer["op"] for answer in answers]
    if len(set(ops)) > 1:
        return f"{where}: expected the same op on every rank, got {_by_rank(ops)}; call the ops in the same order."
    for name in answers[0]["equal"]:
        values = [answer["equal"].get(name) for answer in answers]
        if any(value != values[0] for value in values):
            return f"{where}: expected the same {name} on every rank, got {_by_rank(values)}; {_remedy(name)}"
    return ""


def _remedy(name: str) -> str:
    if name == "scale" or name == "bias":
        return f"{name} is one number of the global loss: broadcast it, or let DDP keep the parameter equal."
    if name == "gradients wanted":
        return "whoever takes part in the forward pass takes part in the backward pass: set requires_grad alike."
    return "convert or pass it alike everywhere."


def _by_rank(values: list[Any]) -> str:
    """Values with who has them: `64 on rank 0, 2 and 32 on rank 1`."""
    groups: dict[str, list[int]] = {}
    for rank, value in enumerate(values):
        groups.setdefault(str(value), []).append(rank)
    return " and ".join(f"{value} on rank {_some(ranks)}" for value, ranks in groups.items())


def _some(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return f"{shown} and {len(ranks) - 8} more" if len(ranks) > 8 else shown
