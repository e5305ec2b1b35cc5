"""pyfast_mmcl itself."""

from __future__ import annotations

import numpy as np

from benchmarks.families.sampling.call import tensor, tree
from benchmarks.families.sampling.cases import TREE
from benchmarks.families.sampling.data import COLUMNS
from benchmarks.families.sampling.gate import BETA, DRAWN, EXACT_TOLERANCE
from benchmarks.families.sampling.truth import SEED
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = EXACT_TOLERANCE


def unavailable() -> str | None:
    return missing("pyfast_mmcl.ops.sampling", "pyfast_mmcl.train.memory", install=".")


def versions() -> dict[str, str]:
    from pyfast_mmcl import _native

    info = _native.info()
    state = info["isa"] if info["built"] else "not built"
    return version_of("pyfast_mmcl", "torch", "numpy") | {"native": state}


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    backend = options.get("backend", "auto")
    if case.op in TREE:
        return _tree(case, inputs, backend)
    ways = {"reservoir": _reservoir, "memory_sample": _memory, "gumbel_top_k": _gumbel, "alias_sample": _alias}
    return ways.get(case.op, _greedy)(case, inputs, backend)


def _reservoir(case, inputs: Inputs, backend: str) -> Prepared:
    """The whole stream: which rows of a batch enter and where, and their copies."""
    import torch

    from pyfast_mmcl.ops.sampling import Reservoir

    rows, ids = tensor(inputs.arrays["rows"]), torch.arange(case.N)

    def run():
        reservoir, kept = Reservoir(case.M, seed=SEED, backend=backend), torch.empty(case.M, case.D)
        for start in range(0, case.N, case.B):
            entering, slots = reservoir.offer(ids[start : start + case.B])
            if len(slots):
                kept[slots] = rows[start : start + case.B][entering]
        return reservoir, kept

    def arrays(answer) -> dict:
        reservoir, kept = answer
        ids = reservoir.index.numpy()
        return {"ids": ids, "rows": kept[: len(ids), 0].numpy(), "offered": case.N, "keyed": True}

    return Prepared(run, arrays, backend=backend)


def _tree(case, inputs: Inputs, backend: str) -> Prepared:
    import torch

    from pyfast_mmcl.ops.sampling import PriorityTree

    class Held:
        def __init__(self, priorities: np.ndarray):
            self.tree = PriorityTree(case.N, seed=SEED, backend=backend)
            self.tree.update(torch.arange(case.N), torch.from_numpy(priorities))
            self.update = self.tree.update

        def sample(self):
            drawn = self.tree.sample(case.B, beta=BETA)
            return drawn.index, drawn.weight

    return tree(case, inputs, Held, torch.from_numpy, backend)


def _greedy(case, inputs: Inputs, backend: str) -> Prepared:
    from pyfast_mmcl.ops.sampling import herding, k_center

    features = tensor(inputs.arrays["features"])
    if case.op == "herding":
        return Prepared(
            lambda: herding(features, case.M, backend=backend), lambda order: {"order": order.numpy()}, backend=backend
        )
    return Prepared(
        lambda: k_center(features, case.M, backend=backend), lambda found: {"order": found[0].numpy()}, backend=backend
    )


def _gumbel(case, inputs: Inputs, backend: str) -> Prepared:
    from pyfast_mmcl.ops.sampling import gumbel_top_k

    weights, calls = tensor(inputs.arrays["weights"]), iter(range(1 << 62))

    def arrays(drawn) -> dict:
        few = weights[:16].clone()
        first = [int(gumbel_top_k(few, 4, seed=seed, backend=backend)[0]) for seed in range(4_000)]
        return {"index": drawn.numpy(), "first": np.array(first)}

    run = lambda: gumbel_top_k(weights, case.B, seed=next(calls), backend=backend)  # noqa: E731
    return Prepared(run, arrays, backend=backend)


def _alias(case, inputs: Inputs, backend: str) -> Prepared:
    from pyfast_mmcl.ops.sampling import AliasTable

    table, calls = AliasTable(tensor(inputs.arrays["weights"]), seed=SEED, backend=backend), iter(range(1 << 62))

    def arrays(drawn) -> dict:
        return {"index": drawn.numpy(), "first": table.sample(DRAWN, step=1 << 40).numpy()}

    return Prepared(lambda: table.sample(case.B, step=next(calls)), arrays, backend=backend)


def _memory(case, inputs: Inputs, backend: str) -> Prepared:
    import torch

    from pyfast_mmcl.data import Batch
    from pyfast_mmcl.train.memory import Memory

    N, generator = case.N, torch.Generator().manual_seed(SEED)
    columns = {name: torch.from_numpy(np.array(inputs.arrays[name])) for name in COLUMNS}
    present = {name: torch.ones(N, dtype=torch.bool) for name in COLUMNS}
    memory = Memory(N, seed=SEED)
    memory.add(Batch(columns, torch.arange(N) % 10, torch.zeros(N, dtype=torch.int64), present, torch.arange(N)))

    def arrays(batch) -> dict:
        return {name: batch.inputs[name].numpy() for name in COLUMNS} | {"index": batch.index.numpy()}

    return Prepared(lambda: memory.sample(case.B, generator), arrays, backend="torch")
