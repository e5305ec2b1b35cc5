"""A contestant's process: answers one JSON line on stdout for each JSON line on stdin.

Kept alive for a whole run, so that contestants take turns (A, B, A, B, …) on the same inputs.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks import clock, families, memory
from benchmarks.contestant import STEERING_PREFIXES
from benchmarks.peer import Unsupported

PROBE_ABOVE = 5e10  # operations; smaller cases are simply run
TURN_SECONDS = 0.05
WARM_BELOW = 0.25  # seconds; longer calls need no untimed call before them


class Desk:
    """Holds the peer and the current case; each public method is one request."""

    def __init__(self, peer_name: str, options: dict):
        # Before the first import: libraries add variables of their own.
        self.settings = {name: value for name, value in os.environ.items() if name.startswith(STEERING_PREFIXES)}
        self.peer, self.options = importlib.import_module(peer_name), options
        self.on_gpu = str(options.get("device", "")).startswith("cuda")
        self.call_seconds = clock.cuda_seconds if self.on_gpu else clock.wall_seconds
        self.family = self.case = self.inputs = self.prepared = None

    def hello(self) -> dict:
        """What runs here. The peer is imported first, so that the list of BLAS libraries is complete."""
        reason = self.peer.unavailable()
        if reason:
            return {"unavailable": reason}
        return {
            "versions": self.peer.versions(),
            "tolerance": self._tolerance(),
            "blas": _blas(),
            "env": self.settings,
        }

    def _tolerance(self) -> float:
        return self.peer.tolerance(self.options) if hasattr(self.peer, "tolerance") else self.peer.TOLERANCE

    def load(self, case: dict, folder: str) -> dict:
        """Map the inputs, touch every page of them, and predict the seconds of one call."""
        self.family, self.prepared = families.of(case["op"]), None
        self.case, self.folder = self.family.cases.Case(**case), Path(folder)
        arrays = self.family.data.load(self.case, self.folder)
        for array in arrays.values():
            array.reshape(-1)[::1024].sum()
        self.inputs = self.family.data.inputs(self.case, arrays)
        return {"predicted": self._predict()}

    def _predict(self) -> float:
        """Seconds of one call, extrapolated from a part of the case; 0 for cases too small to matter."""
        if self.case.flops < PROBE_ABOVE:
            return 0.0
        small, arrays = self.family.data.part(self.case, self.inputs.arrays)
        prepared = self.peer.prepare(small, self.family.data.inputs(small, arrays), self.options)
        seconds = min(self.call_seconds(prepared.run) for _ in range(2))
        return seconds * self.case.flops / small.flops

    def build(self) -> dict:
        """Whatever is prepared before the timed call: converting inputs, packing a bank."""
        before = memory.start()
        built = []
        seconds = clock.wall_seconds(lambda: built.append(self.peer.prepare(self.case, self.inputs, self.options)))
        self.prepared = built[0]
        self._release()
        after = memory.resident()
        grown = 0 if before is None else max(0, after - before)
        return {"seconds": seconds, "held": self.prepared.held or grown, "backend": self.prepared.backend}

    def first(self, out: str) -> dict:
        """The first call: its memory, its seconds (compilation included), its answer for the gate."""
        before = self._memory_start()
        answer = []
        seconds = self.call_seconds(lambda: answer.append(self.prepared.run()))
        extra = self._memory_extra(before)
        with np.load(self.folder / self.family.data.file_names(self.case)["truth"]) as truth:
            kept = self.family.gate.keep(self.case, self.prepared.arrays(answer[0]), truth)
        np.savez(out, **kept)
        answer.clear()
        self._release()
        return {"seconds": seconds, "turn_seconds": seconds * self.prepared.calls, "extra": extra}

    def turn(self, expected: float) -> dict:
        seconds = self.prepared.seconds or (lambda: self.call_seconds(self.prepared.run))
        samples = clock.turn(seconds, at_least=TURN_SECONDS, warm=expected < WARM_BELOW)
        self._release()
        return {"samples": samples}

    def drop(self) -> dict:
        """Forget the case and give its memory back."""
        self.case = self.inputs = self.prepared = None
        memory.trim()
        self._release()
        return {}

    def _release(self) -> None:
        """Hand cached GPU memory back, which all contestants share; on a CPU freed memory is free by itself."""
        if self.on_gpu:
            import torch

            torch.cuda.empty_cache()

    def _memory_start(self) -> int | None:
        if not self.on_gpu:
            return memory.start()
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def _memory_extra(self, before: int | None) -> int | None:
        if not self.on_gpu:
            return memory.extra_since(before)
        import torch

        return torch.cuda.max_memory_allocated() - before


def _blas() -> list[dict]:
    """Loaded BLAS and OpenMP libraries, without their paths."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return []
    wanted = ("internal_api", "version", "architecture", "threading_layer", "num_threads")
    return [{key: info[key] for key in wanted if info.get(key)} for info in threadpool_info()]


def _reason(error: Exception) -> str:
    """What a contestant that does not fit into memory is recorded with is no failure of the run."""
    text = str(error).splitlines()[0] if str(error) else ""
    names = ("MemoryError", "OutOfMemoryError")  # torch's own is a RuntimeError of the second name, or of none
    if type(error).__name__ in names or "can't allocate memory" in text:
        return f"skipped: not enough memory for this shape ({text[:120]})"
    return f"{type(error).__name__}: {error}"


def main() -> None:
    # Libraries may print; the protocol keeps the real stdout and everything else goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    desk = Desk(sys.argv[1], json.loads(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(desk, request.pop("do"))(**request)
        except Unsupported as error:
            answer = {"error": f"unavailable: {error}"}
        except Exception as error:  # reported to the parent, which records it as this contestant's reason
            answer = {"error": _reason(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
