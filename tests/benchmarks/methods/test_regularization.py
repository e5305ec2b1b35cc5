"""Tuning on held-out rows, final runs at the tuned strength, nothing measured twice."""

import pytest

from benchmarks.methods import regularization, results
from benchmarks.methods.regularization import Entry, Setting
from pyfast_mmcl.data import digits_stream

STREAM = regularization.LABEL_STREAMS[0]


@pytest.fixture
def small(monkeypatch):
    """Two strengths, two seeds of each kind, one small stream; ``seen`` lists what was streamed."""
    seen = []

    def stream(held_out, seed):
        seen.append((held_out, seed))
        return digits_stream("til", 2, modalities=["image"])

    monkeypatch.setitem(regularization.SETTINGS, STREAM, Setting(stream, 1, 64))
    monkeypatch.setattr(regularization, "SEEDS", (0, 1))
    monkeypatch.setattr(regularization, "TUNING_SEEDS", (100, 101))
    entries = {"finetune": Entry("finetune"), "ewc": Entry("ewc", "lam", (1.0, 1e6))}
    entries["twin"] = Entry("ewc_huszar", "lam", like="ewc")
    monkeypatch.setattr(regularization, "METHODS", entries)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return seen


def run(what, root):
    assert regularization.main([what, "--stream", STREAM, "--results", str(root)]) == 0


def test_strengths_come_from_validation_rows_and_figures_from_test_rows(small, tmp_path):
    run("tune", tmp_path)
    assert small == [("validation", 100), ("validation", 101)] * 2
    run("run", tmp_path)
    assert small[4:] == [("test", 0), ("test", 1)] * 3
    tuned = results.read(tmp_path / "regularization-tuning").rows
    scores = {
        strength: sum(r.value for r in tuned if r.measure == "last_accuracy" and r.method == f"ewc {strength:g}")
        for strength in (1.0, 1e6)
    }
    found = results.read(tmp_path / "regularization")
    strengths = {r.value for r in found.rows if r.measure == "strength"}
    assert strengths == {max(scores, key=lambda s: scores[s])}
    assert {(r.method, r.seed) for r in found.rows} == {(m, s) for m in ("finetune", "ewc", "twin") for s in (0, 1)}
    before = len(small)
    run("run", tmp_path)
    assert len(small) == before


def test_more_threads_than_one_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert regularization.main(["run"]) == 2 and "OMP_NUM_THREADS=1" in capsys.readouterr().err
