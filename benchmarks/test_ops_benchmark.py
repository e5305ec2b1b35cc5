"""pytest-benchmark view of the fast shapes: `python -m pytest benchmarks/test_ops_benchmark.py`.

For a look at one operation while working on it. Figures to publish come from run.py: there every contestant is a
process of its own, so that the threads and BLAS of one do not disturb another.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import data, gate, peers
from benchmarks.cases import Case, knn

pytest.importorskip("pytest_benchmark")

CASES = (
    knn(1, 5_000, 128, 10),
    knn(64, 5_000, 128, 10),
    knn(500, 5_000, 128, 10),
    Case("nearest", N=5_000, D=64, K=100),
    Case("lloyd_step", N=5_000, D=64, K=100),
)
PEERS = ("ours", "torch_mm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


@pytest.mark.parametrize("peer_name", PEERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_speed(benchmark, folder, case, peer_name):
    peer = peers.load(peer_name)
    reason = peer.unavailable()
    if reason:
        pytest.skip(reason)
    data.make(case, folder)
    arrays = data.load(case, folder)
    prepared = peer.prepare(case, peers.Inputs(case, arrays), {})
    answer = prepared.arrays(prepared.run())
    with np.load(folder / data.file_names(case)["truth"]) as truth:
        if case.op != "lloyd_step":
            answer = {name: array[truth["sample"]] for name, array in answer.items()}
        assert gate.check(case, answer, dict(truth), arrays, peer.TOLERANCE) is None
    benchmark.group = case.id
    benchmark.extra_info["peer"] = peer.versions()
    benchmark(prepared.run)
