"""Per-sample gradients in closed form, one file per family of layers; whatever is missing here falls back.

| layers                                              | file          |
|-----------------------------------------------------|---------------|
| linear maps: Linear, matmul, addmm                  | linear.py     |
| anything else, one function at a time, by vmap      | fallback.py   |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor

from ..calls import Call
from ..contributions import Contribution
from ..shared import Shared
from .fallback import fallback
from .linear import addmm, linear, matmul

Rule = Callable[[Call, list[Tensor | None]], Iterable[tuple[Shared, Contribution]] | None]

# A rule returns None for a form of the call that it does not know.
RULES: dict[str, Rule] = {
    "linear": linear,
    "matmul": matmul,
    "mm": matmul,
    "addmm": addmm,
}


def contributions(call: Call, grads: list[Tensor | None]) -> list[tuple[Shared, Contribution]]:
    """What a call adds to the per-sample gradients of its parameters, given the gradients of its results."""
    call.check_unchanged()
    rule = RULES.get(call.name)
    parts = None if rule is None else rule(call, grads)
    return list(fallback(call, grads) if parts is None else parts)
