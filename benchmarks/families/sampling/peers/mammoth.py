"""The reservoir of Mammoth's buffer, restated: for every row of a batch a random number, a decision and a copy."""

from __future__ import annotations

import math

from benchmarks.families.sampling.call import repeated, tensor, timed
from benchmarks.families.sampling.gate import FLOAT32_TOLERANCE
from benchmarks.families.sampling.truth import SEED
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE
STRETCH = 20_000  # rows measured


def unavailable() -> str | None:
    return missing("torch", install="torch")


def versions() -> dict[str, str]:
    return version_of("torch", "numpy")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    """A stretch of the stream where as many rows enter as do on average: row n enters with chance m/n, whose mean over
    N rows is m/N·(1 + ln(N/m)), that of row N/(1 + ln(N/m))."""
    import numpy as np
    import torch

    rows, random = tensor(inputs.arrays["rows"]), np.random.RandomState(SEED)
    before = max(case.M, int(case.N / (1 + math.log(case.N / case.M))) - STRETCH // 2)
    after = min(case.N, before + STRETCH)
    first = torch.from_numpy(random.permutation(before)[: case.M])

    def run():
        examples, labels, seen = rows[first], first.clone(), before
        for start in range(before, after, case.B):
            batch, ids = rows[start : min(start + case.B, after)], torch.arange(start, min(start + case.B, after))
            for i in range(batch.shape[0]):
                place = seen if seen < case.M else random.randint(0, seen + 1)
                seen += 1
                if place < case.M:
                    examples[place] = batch[i]
                    labels[place] = ids[i]
        return examples, labels

    def arrays(answer) -> dict:
        examples, labels = answer
        return {"ids": labels.numpy(), "rows": examples[:, 0].numpy(), "offered": after, "keyed": False}

    return Prepared(run, arrays, seconds=repeated(lambda: timed(run), (after - before) / case.N))
