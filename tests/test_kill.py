"""kill -9 during `pyfast-mmcl train`, then `--resume`: the accuracy matrix of a run that was never interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
OPTIONS = ["--method", "er", "--epochs", "3", "--batch-size", "16", "--checkpoint-every", "3"]


def command(out: Path, *more: str) -> list[str]:
    program = "from pyfast_mmcl.cli import main; main()"
    return [sys.executable, "-c", program, "train", "--out", str(out), *more]


def checkpoint_of(folder: Path) -> Path | None:
    return next(iter(sorted(folder.rglob("checkpoint.json"))), None)


def kill_after(folder: Path, checkpoints: int) -> None:
    """Start a run, let it write some checkpoints, and kill it without warning."""
    process = subprocess.Popen(command(folder, *OPTIONS), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seen: set[int] = set()
    end = time.monotonic() + 120
    while len(seen) < checkpoints and process.poll() is None and time.monotonic() < end:
        found = checkpoint_of(folder) if folder.exists() else None
        if found is not None:
            seen.add(found.stat().st_mtime_ns)
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read().decode()
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def matrix(folder: Path) -> list:
    return json.loads((folder / "history.json").read_text())["accuracy"]


def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole, *OPTIONS), check=True, capture_output=True)
    kill_after(killed, 8)
    assert not (killed / "history.json").exists()
    subprocess.run(command(killed, "--resume"), check=True, capture_output=True)
    assert matrix(killed) == matrix(whole) and len(matrix(whole)) == 5
