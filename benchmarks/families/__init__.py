"""One folder per family of operations. A new family is a new folder here; nothing outside it has to know.

cases.py        OPS, SIZES, COLUMNS (of a result file), Case (frozen dataclass: op, id, flops, to_dict()), PRESETS,
                TINY, order(row)
contestants.py  CPU, GPU: who takes part; PLAIN: peers for a quick look inside one process
data.py         make(case, folder), load(case, folder), file_names(case), inputs(case, arrays), part(case, arrays)
gate.py         keep(case, answer, truth), check(case, answer, truth, arrays, tolerance)
goals.py        GOALS, evaluate(rows)
tables.py       op_table(rows): the markdown of one operation; kind(row): what else than sizes makes the case
peers/          one file per library, see benchmarks/peer.py
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@dataclass(frozen=True)
class Family:
    """The modules of one family; each is imported when it is first asked for, so that a contestant's process loads
    nothing it does not need."""

    name: str

    def __getattr__(self, part: str) -> ModuleType:
        if part.startswith("_"):
            raise AttributeError(part)
        return importlib.import_module(f"{__name__}.{self.name}.{part}")


@cache
def load(name: str) -> Family:
    if name not in NAMES:
        raise ValueError(f"unknown family {name!r}; choose one of {', '.join(NAMES)}")
    return Family(name)


@cache
def of(op: str) -> Family:
    """The family an operation belongs to."""
    for name in NAMES:
        if op in load(name).cases.OPS:
            return load(name)
    raise ValueError(f"no family has an operation {op!r}")


def every_op() -> tuple[str, ...]:
    return tuple(op for name in NAMES for op in load(name).cases.OPS)
