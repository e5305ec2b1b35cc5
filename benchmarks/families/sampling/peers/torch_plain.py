"""Plain torch: greedy choices from norms and one product per pick, `torch.multinomial`, `index_select`."""

from __future__ import annotations

from benchmarks.families.sampling.call import tensor
from benchmarks.families.sampling.data import COLUMNS
from benchmarks.families.sampling.gate import DRAWN, FLOAT32_TOLERANCE
from benchmarks.families.sampling.truth import SEED
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    if case.op == "memory_sample":
        return _index_select(case, inputs)
    if case.op in ("gumbel_top_k", "alias_sample"):
        return _multinomial(case, inputs)
    features = tensor(inputs.arrays["features"])
    if case.op == "herding":
        return Prepared(lambda: herding(features, case.M), lambda order: {"order": order.numpy()})
    distances = from_differences if options.get("differences") else from_norms
    return Prepared(lambda: k_center(features, case.M, distances), lambda order: {"order": order.numpy()})


def herding(features, m: int):
    """``argmin ‖f‖² + 2 f·(S − kμ)``, one matrix-vector product per pick."""
    import torch

    squares, mean = features.square().sum(1), features.mean(0)
    total, order = torch.zeros_like(mean), torch.empty(m, dtype=torch.int64)
    for k in range(1, m + 1):
        score = torch.addmv(squares, features, total - k * mean, alpha=2)
        pick = int(score.argmin())
        order[k - 1] = pick
        squares[pick] = float("inf")
        total += features[pick]
    return order


def from_differences(features):
    return lambda pick: (features - features[pick]).square().sum(1)


def from_norms(features):
    import torch

    squares = features.square().sum(1)
    return lambda pick: torch.addmv(squares + squares[pick], features, features[pick], alpha=-2)


def k_center(features, m: int, distances):
    import torch

    distance, order = distances(features), torch.empty(m, dtype=torch.int64)
    order[0] = pick = int((features - features.mean(0)).square().sum(1).argmin())
    nearest = distance(pick)
    for k in range(1, m):
        order[k] = pick = int(nearest.argmax())
        nearest = torch.minimum(nearest, distance(pick))
    return order


def _multinomial(case, inputs: Inputs) -> Prepared:
    import torch

    weights, again = tensor(inputs.arrays["weights"]), case.op == "alias_sample"
    generator = torch.Generator().manual_seed(SEED)

    def draw(weights, count: int):
        return torch.multinomial(weights, count, replacement=again, generator=generator)

    def arrays(drawn) -> dict:
        few = weights[:16].clone()
        first = draw(weights, DRAWN) if again else torch.stack([draw(few, 4)[0] for _ in range(4_000)])
        return {"index": drawn.numpy(), "first": first.numpy()}

    return Prepared(lambda: draw(weights, case.B), arrays)


def _index_select(case, inputs: Inputs) -> Prepared:
    """Rows drawn with replacement, then one copy per modality."""
    import numpy as np
    import torch

    columns = {name: torch.from_numpy(np.array(inputs.arrays[name])) for name in COLUMNS}
    generator = torch.Generator().manual_seed(SEED)

    def run():
        rows = torch.randint(case.N, (case.B,), generator=generator)
        return rows, {name: column.index_select(0, rows) for name, column in columns.items()}

    def arrays(answer) -> dict:
        rows, drawn = answer
        return {name: drawn[name].numpy() for name in COLUMNS} | {"index": rows.numpy()}

    return Prepared(run, arrays)
