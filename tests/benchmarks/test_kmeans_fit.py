"""Whole fits of k-means: what is compared, and that rows of other data survive a new run."""

import numpy as np
import pytest

from benchmarks import kmeans_fit, kmeans_table


def test_inertia_is_the_definition():
    rng = np.random.default_rng(0)
    rows, centers = rng.normal(size=(90, 5)).astype(np.float32), rng.normal(size=(7, 5)).astype(np.float32)
    truth = ((rows[:, None].astype(np.float64) - centers) ** 2).sum(-1).min(1).sum()
    assert kmeans_fit.inertia(rows, centers) == pytest.approx(truth, rel=1e-12)


def test_ours_stops_at_the_target(tmp_path, monkeypatch):
    monkeypatch.setattr(kmeans_fit, "K", 5)
    rows = np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    np.save(tmp_path / "heap.npy", rows)
    full = kmeans_fit.work("pyfast", tmp_path / "heap.npy", 10, 0.0)
    assert full["iterations"] == 10
    history = kmeans_fit.fit("pyfast", rows, 10)[1]
    assert kmeans_fit.work("pyfast", tmp_path / "heap.npy", 10, history[3])["iterations"] == 3
    reached = kmeans_fit.inertia(rows, np.load(tmp_path / "centers-pyfast.npy"))
    assert reached == pytest.approx(history[3], rel=1e-6)


def test_rows_of_other_data_are_kept(tmp_path):
    path = tmp_path / "results" / "rows.csv"
    kmeans_fit.keep(path, [{"data": "heap", "seconds": 2.0}, {"data": "heap", "seconds": 3.0}])
    kmeans_fit.keep(path, [{"data": "groups", "seconds": 1.0}])
    kmeans_fit.keep(path, [{"data": "heap", "seconds": 4.0}])
    lines = path.read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["data", "groups", "heap"]
    assert not list(path.parent.glob("*.partial"))


def test_the_table_holds_every_fit_beside_ours(tmp_path):
    assert kmeans_table.section(tmp_path) == ""
    about = {
        "N": 1000,
        "D": 8,
        "K": 10,
        "machine": "a CPU",
        "threads": 2,
        "commit": "abc",
        "date": "2026-01-01T00:00:00Z",
    }
    rows = [
        {
            "data": data,
            "contestant": name,
            "seconds": seconds,
            "inertia": 5.0,
            "iterations": 3,
            "versions": name,
            **about,
        }
        for data, name, seconds in (("heap", "faiss", 6.0), ("heap", "pyfast", 4.0), ("groups", "faiss", 1.0))
    ]
    kmeans_fit.keep(tmp_path / "kmeans_fit" / "rows.csv", rows)
    text = kmeans_table.section(tmp_path)
    assert "| heap | faiss | 3 | 6.0 | 5 | 1.50 |" in text
    assert "| heap | pyfast | 3 | 4.0 | 5 | – |" in text
    assert "| groups | faiss | 3 | 1.0 | 5 | – |" in text
