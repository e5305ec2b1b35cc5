"""The bar shows task, epoch, time left and terms on a terminal, and nothing elsewhere."""

import io

import pytest
from rich.console import Console

from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import progress, run_continual


@pytest.fixture
def screen(monkeypatch):
    """A terminal 160 columns wide, as text."""
    text = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=text, force_terminal=True, width=160))
    return text


def test_bar_shows_where_the_run_is(screen, monkeypatch):
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.0)
    run_continual("er", digits_stream(n_tasks=2), epochs=2, device="cpu")
    shown = screen.getvalue()
    assert "task 2/2 task 2 · epoch 2/2" in shown and "objective" in shown and "/92" in shown


def test_bar_of_a_resumed_run_starts_where_it_stopped(screen):
    with progress.ProgressBar(10, done=4) as bar:
        bar.describe("going on")
        bar.advance(lambda: {"loss": 0.5})
    assert "5/10" in screen.getvalue() and "loss 0.500" in screen.getvalue()


def test_on_a_narrow_terminal_what_is_left_stays_whole(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=text, force_terminal=True, width=80))
    with progress.ProgressBar(200) as bar:
        bar.describe("clustering · epoch 3/200")
        bar.advance(lambda: {"instances": 5.973, "clusters": 2.944, "balance": 0.004})
    assert "1/200" in text.getvalue() and "-:--" in text.getvalue() and "…" not in text.getvalue()


def test_nothing_is_drawn_when_not_wanted_or_not_on_a_terminal(screen, capsys, monkeypatch):
    with progress.ProgressBar(3, enabled=False) as bar:
        bar.advance(lambda: pytest.fail("the terms of a silent bar must not be read"))
    assert screen.getvalue() == ""
    monkeypatch.undo()
    run_continual("finetune", digits_stream(n_tasks=2), epochs=1, device="cpu")
    out = capsys.readouterr()
    assert out.out == out.err == ""


def test_the_accuracy_matrix_is_shown_while_the_run_goes_on(screen):
    history = run_continual("er", digits_stream(n_tasks=2), epochs=1, device="cpu")
    shown = screen.getvalue()
    assert "accuracy in % after task" in shown
    first, last = (shown.find(f"{100 * row[i]:.1f}") for i, row in enumerate(history.accuracy))
    # The first row stands there while the second task is trained.
    assert 0 < first < shown.rfind("task 2/2") and last > first


def test_epochs_that_are_not_taken_are_skipped(screen):
    with progress.ProgressBar(10) as bar:
        bar.skip(4)
        bar.matrix([])
        bar.advance(lambda: {"loss": 0.5})
    assert "5/10" in screen.getvalue() and "accuracy" not in screen.getvalue()
