"""Shows of clusterings: rows are recorded once, verdicts follow the figures, tables name what exists."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.methods import clusters, clusters_beside, clusters_data, clusters_literature, results
from benchmarks.methods.clusters_beside import BETTER, FEW, WITHIN, WORSE
from benchmarks.methods.clusters_lines import LINES, Line
from benchmarks.methods.clusters_settings import Budget
from benchmarks.methods.clusters_shows import SHOWS, Show
from benchmarks.methods.results import Row
from benchmarks.methods.spread import spread
from pyfast_mmcl._errors import InputError

TOY = Show("toy", "toy, clusters", "Two blobs.", ("dec", "dec, ClustPy", "refused"), seeds=(0, 1))


@pytest.fixture
def toy(monkeypatch):
    """A data set of two blobs, and three lines of which one is refused; what has been run, in turn."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    data = clusters_data.Data(y, clusters_data.scaled(rng.normal(size=(40, 3)) + 10 * y[:, None]))
    ran = []

    def right(data, seed, budget):
        ran.append((len(data.y), seed, budget.epochs))
        return data.vectors[:, 0] > 0

    def refused(data, seed, budget):
        raise InputError("no.")

    monkeypatch.setattr(clusters_data, "read", lambda name: data)
    monkeypatch.setattr(clusters, "_warm", set())
    monkeypatch.setitem(LINES, "dec", Line(right))
    monkeypatch.setitem(LINES, "dec, ClustPy", Line(right, ("dec",), once=True))
    monkeypatch.setitem(LINES, "refused", Line(refused))
    # Versions are those of what is installed here, which need not be every peer.
    monkeypatch.setattr(results, "describe", lambda packages, threads: {"versions": {}})
    return ran


def test_runs_are_recorded_once_and_after_a_warm_one(toy, tmp_path):
    for _ in range(2):
        assert clusters.attempted(TOY, "dec", 0, tmp_path)
    assert toy == [(40, 0, 1), (40, 0, 20)]
    rows = {row.measure: row.value for row in results.read(tmp_path / "clusters-toy").rows}
    assert rows["acc"] == rows["nmi"] == rows["ari"] == 1
    assert rows["seconds"] > 0 and rows["cpu_seconds"] >= 0


def test_what_is_refused_is_said_and_not_recorded(toy, tmp_path, capsys):
    assert not clusters.attempted(TOY, "refused", 0, tmp_path)
    assert "refused · seed 0: no." in capsys.readouterr().err and not (tmp_path / "clusters-toy").exists()


def test_a_line_without_randomness_runs_for_the_first_seed_only(toy, tmp_path):
    for seed in TOY.seeds:
        assert clusters.attempted(TOY, "dec, ClustPy", seed, tmp_path)
    assert [row.seed for row in results.read(tmp_path / "clusters-toy").rows if row.measure == "acc"] == [0]


def test_what_has_not_been_run_is_said(toy, tmp_path):
    clusters.settle(TOY, tmp_path)
    assert not list(tmp_path.iterdir())
    for names, said in ((("dec",), ("Not run here, for want of time: dec, ClustPy; refused.",)), (TOY.lines, ())):
        rows = [Row(TOY.title, name, 0, "acc", 0.5) for name in names]
        results.record(clusters.experiment(TOY, set(names)), rows, threads=1, root=tmp_path)
        clusters.settle(TOY, tmp_path)
        assert results.read(tmp_path / "clusters-toy").experiment.notes == said


def test_tables_name_what_exists():
    for show in SHOWS:
        assert set(show.lines) <= set(LINES) and len(set(show.lines)) == len(show.lines), show.data
        assert show.data in clusters_data.SOURCES
    assert all(name in LINES for line in LINES.values() for name in line.beside)
    assert len({show.folder for show in SHOWS}) == len(SHOWS)


def test_the_shortest_budget_has_one_epoch_of_everything():
    budget = Budget(5, 6, {"imsat": {"epochs": 7, "batch_size": 8}, "scan": {"pretext_epochs": 9}}).least()
    assert budget.of("dec", 100)["pretrain_epochs"] == budget.of("dec", 100)["epochs"] == 1
    assert budget.of("imsat", 100) == {"epochs": 1, "batch_size": 8} and budget.of("scan", 100) == {"pretext_epochs": 1}


def test_rows_are_scaled_to_mean_0_and_variance_1():
    x = clusters_data.scaled(np.random.default_rng(0).normal(5, [1, 2, 3], (50, 3)))
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(x.var(0).mean(), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "peer", "verdict"),
    [
        ((0.8, 0.81, 0.82), (0.7, 0.71, 0.72), BETTER),
        ((0.8, 0.7, 0.75), (0.81, 0.72, 0.74), WITHIN),
        ((0.6, 0.61, 0.62), (0.7, 0.71, 0.72), WORSE),
        ((0.6, 0.8, 0.7), (0.9, 0.81, 0.88), f"{WORSE}, not decided"),
        ((0.6,), (0.9,), FEW),
        ((0.6, 0.61), (0.9, 0.91), FEW),
    ],
)
def test_quality_is_what_the_figures_say(ours, peer, verdict):
    a, b = dict(enumerate(ours)), dict(enumerate(peer))
    assert clusters_beside.quality(a, b, spread(ours), spread(peer)) == verdict


def test_speed_is_the_geometric_mean_of_shared_seeds():
    assert math.isclose(clusters_beside.times_as_fast({0: 1.0, 1: 2.0, 2: 9.0}, {0: 2.0, 1: 16.0}), 4.0)


def test_pairs_and_literature_are_tables_of_what_was_measured(toy, tmp_path):
    assert clusters_beside.section(tmp_path) == clusters_literature.section(tmp_path) == ""
    for name, seconds in (("dec", 1.0), ("dec, ClustPy", 3.0)):
        rows = [Row(TOY.title, name, 0, "acc", 0.5), Row(TOY.title, name, 0, "cpu_seconds", seconds)]
        results.record(clusters.experiment(TOY, {name}), rows, threads=1, root=tmp_path)
    assert "| toy | dec | 50.0 | dec, ClustPy | 50.0 | too few seeds | 3.00 | yes | 1 |" in clusters_beside.section(
        tmp_path
    )
    (tmp_path / "clusters-toy").rename(tmp_path / "clusters-mnist")
    table = clusters_literature.section(tmp_path)
    assert "| DEC, Xie et al. 2016 | 84.3 | dec | 50.0 | 1 |" in table
    assert "| IIC, Ji et al. 2019 | 99.2 | iic | – | 0 |" in table


def test_the_text_speaks_of_lines_that_have_been_run():
    budget = Budget(own={"imsat": {"epochs": 8}, "scan": {"epochs": 3}})
    show = replace(TOY, budget=budget)
    alone = clusters.experiment(show, {"kmeans", "imsat"}).text
    assert "ClustPy" not in alone and "likelihood" not in alone and "imsat epochs 8." in alone and "scan" not in alone
    both = clusters.experiment(show, {"dec", "dec, ClustPy", "vade", "scan, vectors"}).text
    assert "ClustPy's methods" in both and "Bernoulli" in both and both.endswith("scan epochs 3.")
    assert clusters.experiment(show, {"kmeans"}).text.endswith("their defaults.")
