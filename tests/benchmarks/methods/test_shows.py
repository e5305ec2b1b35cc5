"""Shows: strengths from validation rows, figures from test rows, nothing measured twice, refusals told apart."""

import pytest

from benchmarks.methods import results, shows
from benchmarks.methods.show import Show
from benchmarks.methods.shows import SHOWS
from benchmarks.methods.shows_lines import LINES, Line
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train.registry import recipes

TITLE = "small digits"


@pytest.fixture
def small(monkeypatch):
    """One small stream with a tuned line and one that refuses it; ``seen`` lists what was streamed."""
    seen = []

    def stream(held_out, seed):
        seen.append((held_out, seed))
        return digits_stream("til", 2, modalities=["text"])

    monkeypatch.setitem(LINES, "ewc", Line("ewc", strength="lam", grid=(1.0, 1e6)))
    monkeypatch.setitem(LINES, "twin", Line("ewc_huszar", strength="lam", like="ewc"))
    show = Show("shows-small", TITLE, "Digits.", stream, ("finetune", "er", "samm", "ewc", "twin"), 1, 20, seeds=(0, 1))
    monkeypatch.setattr(shows, "SHOWS", {TITLE: show})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return seen


def test_strengths_come_from_validation_rows_and_a_twin_takes_them_over(small, tmp_path, capsys):
    assert shows.main([TITLE, "--results", str(tmp_path)]) == 1
    assert "samm" in capsys.readouterr().err, "samm needs two modalities, and the others go on without it"
    assert small.count(("validation", shows.TUNING_SEED)) == 2
    rows = results.read(tmp_path / "shows-small").rows
    final = {r.method: r for r in rows if r.measure == "last_accuracy" and r.seed == 1}
    assert set(final) == {"finetune", "er", "ewc", "twin"}
    tried = {r.method: r.value for r in rows if r.measure == shows.VALIDATION}
    best = max(sorted(tried), key=lambda name: tried[name])
    used = {r.value for r in rows if r.measure == "strength"}
    assert {shows.candidate("ewc", value) for value in used} == {best}
    assert all(r.value > 0 for r in rows if r.method == "er" and r.measure == "kept_kib")


def test_what_is_recorded_is_not_run_again(small, tmp_path):
    shows.main([TITLE, "--method", "finetune", "--method", "ewc", "--seeds", "1", "--results", str(tmp_path)])
    assert len(small) == 4
    shows.main([TITLE, "--method", "finetune", "--method", "ewc", "--results", str(tmp_path)])
    assert small[4:] == [("test", 1), ("test", 1)]


def test_the_tables_name_what_there_is():
    known = recipes()
    assert {line.recipe for line in LINES.values()} <= set(known)
    for line in LINES.values():
        accepted = known[line.recipe].defaults
        assert (not line.keeps or "capacity" in accepted) and line.strength in ("", "lr", *accepted)
        assert bool(line.strength) == bool(line.grid or line.like)
        assert {name for name, _ in line.fixed} <= set(accepted)
    assert len({show.folder for show in SHOWS.values()}) == len(SHOWS)
    for show in SHOWS.values():
        assert set(show.methods) <= set(LINES) and {"finetune", "joint"} <= set(show.methods)
        assert not {LINES[name].like for name in show.methods if LINES[name].like} - set(show.methods)
