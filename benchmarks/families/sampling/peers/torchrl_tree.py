"""torchrl: its PrioritizedSampler, and the two segment trees below it without what the sampler does around them."""

from __future__ import annotations

from benchmarks import aside
from benchmarks.families.sampling.call import tree
from benchmarks.families.sampling.gate import BETA, FLOAT32_TOLERANCE
from benchmarks.families.sampling.truth import SEED
from benchmarks.peer import Inputs, Prepared, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return aside.unavailable("torchrl", "torchrl._torchrl")


def versions() -> dict[str, str]:
    return version_of("torchrl", "tensordict", "torch")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import torch

    build = _bare(case) if options.get("bare") else _sampler(case)
    return tree(case, inputs, build, torch.from_numpy, "")


def _sampler(case):
    import torch
    from torchrl.data.replay_buffers.samplers import PrioritizedSampler

    class Storage:
        ndim, device = 1, torch.device("cpu")

        def __len__(self) -> int:
            return case.N

    class Held:
        def __init__(self, priorities):
            self.sampler, self.storage = PrioritizedSampler(case.N, alpha=1.0, beta=BETA), Storage()
            self.sampler.update_priority(torch.arange(case.N), torch.from_numpy(priorities))
            self.update = self.sampler.update_priority

        def sample(self):
            index, info = self.sampler.sample(self.storage, case.B)
            return index, info["priority_weight"]

    return Held


def _bare(case):
    import numpy as np
    import torch
    from torchrl._torchrl import MinSegmentTreeFp32, SumSegmentTreeFp32

    generator = np.random.default_rng(SEED)

    class Held:
        def __init__(self, priorities):
            self.sums, self.least = SumSegmentTreeFp32(case.N), MinSegmentTreeFp32(case.N)
            self.update(torch.arange(case.N), torch.from_numpy(priorities))

        def update(self, index, priority):
            self.sums[index] = priority
            self.least[index] = priority

        def sample(self):
            mass = generator.uniform(0.0, self.sums.query(0, case.N), size=case.B)
            index = torch.as_tensor(self.sums.scan_lower_bound(mass)).clamp_max_(case.N - 1)
            weight = torch.as_tensor(self.sums[index])
            return index, (weight / self.least.query(0, case.N)).pow(-BETA)

    return Held
