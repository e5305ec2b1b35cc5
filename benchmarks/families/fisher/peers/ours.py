"""pyfast_mmcl itself: `fisher_diagonal`."""

from __future__ import annotations

from benchmarks.families.fisher.call import prepared
from benchmarks.families.fisher.gate import FLOAT32_TOLERANCE
from benchmarks.families.fisher.truth import FISHER
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
    from pyfast_mmcl.ops.fisher import fisher_diagonal

    def measure(model, batches) -> list:
        return list(fisher_diagonal(model, batches, backend=options.get("backend", "auto")).values())

    return prepared(case, inputs, options, FISHER, measure, backend=options.get("backend", "auto"))
