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
    entries = {"finetune": Entry("finetune"), "ewc": Entry("ewc", "lam", (1.0, 1e6))}
    entries["twin"] = Entry("ewc_huszar", "lam", like="ewc")
    monkeypatch.setattr(regularization, "METHODS", entries)
    monkeypatch.setattr(regularization, "MORE_DECADES", 0)
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


@pytest.fixture
def scored(monkeypatch):
    """Runs are not trained: their accuracy is ``scored[0]`` of the strength; ``scored[1]`` lists what was run."""
    score, runs = [None], []

    def fake(recipe, stream, *, seed, lam, **settings):
        runs.append((lam, seed))
        return lam

    def taken(lam, strength):
        return {"last_accuracy": score[0](lam), "strength": strength}

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(regularization, "run_continual", fake)
    monkeypatch.setattr(regularization, "measures", taken)
    monkeypatch.setattr(regularization, "METHODS", {"ewc": Entry("ewc", "lam", (1.0, 10.0))})
    monkeypatch.setitem(regularization.SETTINGS, STREAM, Setting(lambda held_out, seed: None, 1, 64))
    return score, runs


@pytest.mark.parametrize(
    ("score", "tried", "chosen"),
    [
        (lambda lam: -abs(lam - 300), [1, 10, 100, 1000], 100),  # continued upwards until the best one has neighbours
        (lambda lam: -lam, [1e-3, 1e-2, 1e-1, 1, 10], 1e-3),  # the weaker the better: three decades, no more
        (lambda lam: 0.5, [1e-3, 1e-2, 1e-1, 1, 10], 1e-3),  # equals: the smaller one
    ],
)
def test_a_grid_is_continued_while_its_best_strength_lies_at_an_end(scored, tmp_path, score, tried, chosen):
    scored[0][0] = score
    run("tune", tmp_path)
    assert sorted({lam for lam, _ in scored[1]}) == tried
    assert len(scored[1]) == 2 * len(tried)
    run("run", tmp_path)
    assert scored[1][-5:] == [(chosen, seed) for seed in (0, 1, 2, 3, 4)]


def test_a_run_at_another_strength_is_measured_again(scored, tmp_path):
    scored[0][0] = lambda lam: -abs(lam - 2)
    run("tune", tmp_path)
    run("run", tmp_path)
    before = len(scored[1])
    scored[0][0] = lambda lam: lam if lam <= 10 else 0.0
    (tmp_path / "regularization-tuning" / results.RUNS).unlink()
    run("tune", tmp_path)
    run("run", tmp_path)
    assert scored[1][-5:] == [(10.0, seed) for seed in (0, 1, 2, 3, 4)] and len(scored[1]) > before
    rows = results.read(tmp_path / "regularization").rows
    assert {r.value for r in rows if r.measure == "strength"} == {10.0}


def test_more_threads_than_one_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert regularization.main(["run"]) == 2 and "OMP_NUM_THREADS=1" in capsys.readouterr().err
