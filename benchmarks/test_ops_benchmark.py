"""pytest-benchmark view of the fast shapes: `python -m pytest benchmarks/test_ops_benchmark.py`.

For a look at one operation while working on it. Figures to publish come from run.py: there every contestant is a
process of its own, so that the threads and BLAS of one do not disturb another.
"""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from benchmarks import families

pytest.importorskip("pytest_benchmark")

CHOICES = [
    (family, case, peer)
    for family in map(families.load, families.NAMES)
    for case in family.cases.TINY
    for peer in family.contestants.PLAIN
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


@pytest.mark.parametrize(
    ("family", "case", "peer_name"), CHOICES, ids=[f"{case.id}-{peer}" for _, case, peer in CHOICES]
)
def test_speed(benchmark, folder, family, case, peer_name):
    peer = importlib.import_module(f"benchmarks.families.{family.name}.peers.{peer_name}")
    reason = peer.unavailable()
    if reason:
        pytest.skip(reason)
    family.data.make(case, folder)
    arrays = family.data.load(case, folder)
    prepared = peer.prepare(case, family.data.inputs(case, arrays), {})
    with np.load(folder / family.data.file_names(case)["truth"]) as truth:
        answer = family.gate.keep(case, prepared.arrays(prepared.run()), truth)
        assert family.gate.check(case, answer, dict(truth), arrays, peer.TOLERANCE) is None
    benchmark.group = case.id
    benchmark.extra_info["peer"] = peer.versions()
    benchmark(prepared.run)
