"""Memory maps are read in blocks and never loaded: a fit adds far less than their size to the memory of its process."""

import threading
from pathlib import Path

import numpy as np
import pytest

from pyfast_mmcl.clustering import inputs
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.mini_batch_kmeans import MiniBatchKMeans

N, D = 400_000, 64
STATUS = Path("/proc/self/status")


def own_memory() -> int:
    """Bytes of this process that no file stands behind."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def peak_of(call) -> int:
    """Bytes by which the process's own memory grew at most during ``call``."""
    before, highest, done = own_memory(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            highest[0] = max(highest[0], own_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        call()
    finally:
        done.set()
        watcher.join()
    return max(highest[0], own_memory()) - before


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("estimator", [KMeans, MiniBatchKMeans])
def test_a_memory_map_is_not_loaded(estimator, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "_BLOCK_BYTES", 2**23)
    X = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=dtype, shape=(N, D))
    rng = np.random.default_rng(0)
    for start in range(0, N, 50_000):
        X[start : start + 50_000] = rng.standard_normal((50_000, D), dtype=np.float32)
    X.flush()
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = estimator(8, max_iter=1, random_state=0)
    model.fit(mapped[:5000])  # threads, code and caches are there from here on
    # Labels, costs and their like take 8 bytes a row each; the rows themselves would take N · D · 4 and more.
    assert peak_of(lambda: model.fit(mapped)) < 0.5 * N * D * 4
    assert len(model.labels_) == N
