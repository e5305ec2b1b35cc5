"""The parent's handle on a contestant's process."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile

from benchmarks.contestant import Contestant, environment
from benchmarks.machine import ROOT

PATIENCE = 900.0  # seconds without an answer after which a contestant is given up


class ContestantFailed(RuntimeError):
    """A contestant refused, raised or died; the message says which."""


class Process:
    """Starts the worker on first use; `ask(do, **arguments)` is one request and its answer."""

    def __init__(self, contestant: Contestant, threads: int):
        self.contestant, self.threads = contestant, threads
        self._child: subprocess.Popen | None = None
        self.info: dict = {}

    def start(self) -> None:
        """Start the worker and learn what it is; raises ContestantFailed with the reason it cannot run."""
        if self._child is not None and self._child.poll() is None:
            return
        self._errors = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", self.contestant.peer, json.dumps(self.contestant.options)],
            cwd=ROOT,
            env=environment(self.contestant, self.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.info = self.ask("hello")
        if "unavailable" in self.info:
            reason = self.info["unavailable"]
            self.stop()
            raise ContestantFailed(f"unavailable: {reason}")

    def ask(self, do: str, **arguments) -> dict:
        """One request; raises ContestantFailed when the worker reports an error, dies or stays silent."""
        try:
            self._child.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._child.stdin.flush()
            ready, _, _ = select.select([self._child.stdout], [], [], PATIENCE)
            line = self._child.stdout.readline() if ready else None
        except BrokenPipeError:
            line = ""
        if line is None:
            self.stop()
            raise ContestantFailed(f"no answer to {do!r} within {PATIENCE:.0f} s")
        if not line:
            raise ContestantFailed(f"the process ended with status {self._child.wait()} ({self._last_error()})")
        answer = json.loads(line)
        if "error" in answer:
            raise ContestantFailed(answer["error"])
        return answer

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "no message"

    def stop(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        self._child.stdin.close()
        self._child.stdout.close()
        self._errors.close()
        self._child = None
