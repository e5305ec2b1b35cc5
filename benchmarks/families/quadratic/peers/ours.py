"""pyfast_mmcl itself: `quadratic_penalty`, over tasks folded into one or task by task."""

from __future__ import annotations

from benchmarks.families.quadratic.call import prepared
from benchmarks.families.quadratic.gate import FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("pyfast_mmcl.ops.fisher", install=".")


def versions() -> dict[str, str]:
    from pyfast_mmcl import _native

    info = _native.info()
    state = info["isa"] if info["built"] else "not built"
    return version_of("pyfast_mmcl", "torch", "numpy") | {"native": state}


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    from pyfast_mmcl.ops.fisher import quadratic_penalty

    backend = options.get("backend", "auto")

    def penalty(params, tasks):
        values = [quadratic_penalty(params, task.anchor, task.weight, backend=backend) for task in tasks]
        value = sum(values[1:], values[0])
        value.backward()
        return value.detach()

    return prepared(case, inputs, options, penalty)
