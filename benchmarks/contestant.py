"""Who runs: a module that calls a library (peer.py), the environment its process starts with, the options it is
prepared with.

BLAS core types, thread counts and wait policies are read once, when a library loads. Each contestant is therefore a
process of its own with an environment built here and never inherited.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

# Whatever steers BLAS, OpenMP or instruction sets is removed before a contestant's own settings are added.
STEERING_PREFIXES = ("OPENBLAS_", "OMP_", "GOMP_", "KMP_", "MKL_", "BLIS_", "FAISS_", "NUMEXPR_", "PYFAST_", "GOTO_")

PEER = "peer"  # the role of a library no goal speaks of by itself


@dataclass(frozen=True)
class Contestant:
    """`mode` is one-shot (packing or index building inside the timed call) or amortised (built beforehand)."""

    name: str
    peer: str
    role: str = PEER
    mode: str = "one-shot"
    env: dict = field(default_factory=dict, hash=False)
    options: dict = field(default_factory=dict, hash=False)
    ops: tuple = ()
    dtypes: tuple = ()  # empty: all
    max_N: int | None = None
    only: Callable | None = field(default=None, hash=False)  # a further condition on the case
    needs_isa: str | None = None

    def accepts(self, case, isa_flags: frozenset[str]) -> bool:
        if self.needs_isa and self.needs_isa not in isa_flags:
            return False
        if case.op not in self.ops or (self.dtypes and case.dtype not in self.dtypes):
            return False
        return (self.max_N is None or case.N <= self.max_N) and (self.only is None or self.only(case))


def environment(contestant: Contestant, threads: int) -> dict[str, str]:
    """The whole environment of a contestant's process."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(STEERING_PREFIXES)}
    env["OMP_NUM_THREADS"] = str(threads)
    env.update(contestant.env)
    return env


def entrants(case, pool: tuple[Contestant, ...], isa_flags: frozenset[str]) -> list[Contestant]:
    """Contestants of `pool` that take part in `case` on a CPU with these flags, in a fixed order."""
    return [one for one in pool if one.accepts(case, isa_flags)]
