"""cpprb: its prioritized replay buffer, with one number as everything it stores."""

from __future__ import annotations

from benchmarks import aside
from benchmarks.families.sampling.call import tree
from benchmarks.families.sampling.gate import BETA, FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return aside.unavailable("cpprb", "cpprb")


def versions() -> dict[str, str]:
    return version_of("cpprb", "numpy")


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    import numpy as np
    from cpprb import PrioritizedReplayBuffer

    class Held:
        def __init__(self, priorities: np.ndarray):
            self.buffer = PrioritizedReplayBuffer(case.N, {"obs": {}}, alpha=1.0, eps=0.0)
            self.buffer.add(obs=np.zeros(case.N, np.float32), priorities=priorities)
            self.update = self.buffer.update_priorities

        def sample(self):
            drawn = self.buffer.sample(case.B, beta=BETA)
            return drawn["indexes"], drawn["weights"]

    return tree(case, inputs, Held, np.asarray, "")
