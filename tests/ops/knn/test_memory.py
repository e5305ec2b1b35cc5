"""Working memory stays below the packed bank + 64 MiB, whatever N×M is."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pyfast_mmcl.ops.knn import PackedRows, knn, lloyd_step

STATUS = Path("/proc/self/status")
pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's /proc to see the memory in use")


def anonymous_bytes() -> int:
    """Memory this process owns; pages of a mapped file do not count."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def peak_growth(function) -> int:
    """The most that ``function`` adds to the memory of this process while it runs."""
    start, peak, running = anonymous_bytes(), 0, True

    def watch() -> None:
        nonlocal peak
        while running:
            peak = max(peak, anonymous_bytes())
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        function()
    finally:
        running = False
        watcher.join()
    return max(0, peak - start)


@pytest.mark.parametrize("k", [1, 10, 1024])
def test_a_memory_map_is_streamed(isa, k, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float16, shape=(150_000, 128))
    for start in range(0, len(rows), 10_000):
        rows[start : start + 10_000] = rng.standard_normal((10_000, 128), dtype=np.float32)
    q = rng.standard_normal((300 if k < 1024 else 60, 128), dtype=np.float32).astype(np.float16)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    knn(q[:5], mapped[:50], 1, backend="native")  # threads and caches exist before the measurement
    assert peak_growth(lambda: knn(q, mapped, k, backend="native")) < 64 * 2**20


def test_many_queries_and_a_packed_bank(isa):
    x, q = torch.randn(20_000, 64), torch.randn(60_000, 64)
    bank = PackedRows(x, copy=False)
    outputs = 60_000 * 5 * 12
    budget = x.numel() * 4 + outputs + 64 * 2**20
    knn(q[:5], x[:50], 1, backend="native")
    assert peak_growth(lambda: knn(q[:30_000], bank, 5, backend="native")) < budget


def test_a_lloyd_step_of_many_rows(isa):
    x = torch.randn(200_000, 32)
    lloyd_step(x[:100], x[:4], backend="native")
    outputs = 200_000 * 16
    assert peak_growth(lambda: lloyd_step(x, x[:20], backend="native")) < outputs + 64 * 2**20
