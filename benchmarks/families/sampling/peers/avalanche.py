"""Two algorithms of Avalanche, restated.

Reservoir: a uniform number for each row, joined with those of the rows kept, the whole sorted, the first m kept. Its
datasets are lists of indices, so ids are joined and chosen here and no row is copied, which favours it.
Herding: the whole order, one pick after the other, from the mean that each candidate would give.
"""

from __future__ import annotations

from benchmarks.families.sampling.call import repeated, tensor, timed
from benchmarks.families.sampling.gate import FLOAT32_TOLERANCE
from benchmarks.families.sampling.truth import SEED
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE
SORTED, PICKS = 4_000_000, 128  # rows sorted of a stream and picks of an order that are measured: each costs as much


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    return (_reservoir if case.op == "reservoir" else _herding)(case, inputs)


def _reservoir(case, inputs: Inputs) -> Prepared:
    """A full memory, then some batches; a stream costs as much for each of its batches."""
    import torch

    torch.manual_seed(SEED)
    count = min(max(32, SORTED // (case.M + case.B)), (case.N - case.M) // case.B)
    offered = case.M + count * case.B
    full = torch.rand(case.M).sort(descending=True).values, torch.randperm(case.M)

    def run():
        weights, ids = full
        for start in range(case.M, offered, case.B):
            joined = torch.cat([torch.rand(case.B), weights])
            every = torch.cat([torch.arange(start, start + case.B), ids])
            ranked, order = joined.sort(descending=True)
            weights, ids = ranked[: case.M], every[order[: case.M]]
        return ids

    def arrays(ids) -> dict:
        kept = ids.numpy()
        return {"ids": kept, "rows": inputs.arrays["rows"][kept, 0], "offered": offered, "keyed": False}

    share = count * case.B / case.N
    return Prepared(run, arrays, seconds=repeated(lambda: timed(run), share))


def _herding(case, inputs: Inputs) -> Prepared:
    features = tensor(inputs.arrays["features"])
    picks = min(PICKS, case.M)

    def run():
        mean = features.mean(dim=0)
        chosen, current = [], mean * 0
        for i in range(picks):
            candidates = current * i / (i + 1) + features / (i + 1)
            distances = (candidates - mean).pow(2).sum(dim=1)
            distances[chosen] = float("inf")
            best = int(distances.argmin())
            chosen.append(best)
            current = candidates[best]
        return chosen

    def arrays(chosen) -> dict:
        import numpy as np

        return {"order": np.array(chosen)}

    return Prepared(run, arrays, seconds=repeated(lambda: timed(run), picks / case.M))
