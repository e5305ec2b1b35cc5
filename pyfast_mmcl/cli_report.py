"""`pyfast-mmcl demo` and `pyfast-mmcl report`: results in the terminal and on one HTML page."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ._errors import InputError
from .cli_errors import on_interrupt, say
from .report import collect, comparison, pages, runs, tables
from .report import demo as steps


def report(places: Sequence[Path], out: Path | None) -> None:
    """Write the page of one run into its folder, or one page that compares all runs in several places.

    places: folders of runs, or folders that hold such folders.
    out: the page that compares runs; by default report.html in the folder that all of them share.
    Raises InputError or CheckpointError where there is nothing to show.
    """
    console = Console()
    if len(places) == 1 and out is None and (not places[0].is_dir() or not has_runs_below(places[0])):
        console.print(f"Wrote {pages.build(places[0])}", highlight=False, soft_wrap=True)
        return
    found = collect.collect(places)
    for folder, reason in found.left_out:
        say(f"left out {folder}: {reason}")
    page = out or shared_folder(places) / pages.PAGE
    if page.is_dir() or page.suffix != ".html":
        raise InputError(f"--out: expected a file that ends in .html, got {page}.")
    page.parent.mkdir(parents=True, exist_ok=True)
    files = ", ".join(str(path) for path in comparison.write(found, page))
    console.print(f"{len(found.runs)} runs compared. Wrote {files}", highlight=False, soft_wrap=True)


def has_runs_below(folder: Path) -> bool:
    """Whether the folder is no run itself but holds folders of runs."""
    return not (folder / runs.RECORD).exists() and any(folder.rglob(runs.RECORD))


def shared_folder(places: Sequence[Path]) -> Path:
    """The innermost folder that holds all of them; of a single one that is no run, the folder itself."""
    folders = [place if has_runs_below(place) else place.parent for place in places if place.is_dir()]
    shared, here = Path(os.path.commonpath([folder.resolve() for folder in folders])), Path.cwd().resolve()
    return shared.relative_to(here) if shared.is_relative_to(here) else shared


def demo(out: Path, seed: int, *, epochs: int = 10, rounds: int = 7) -> None:
    """Run the demo, print its tables and write run.json, demo.json and report.html into `out`.

    Raises InputError when `out` holds something that is not a demo.
    """
    _check_free(out)
    console, start = Console(), time.perf_counter()
    with on_interrupt("interrupted; nothing was written, run pyfast-mmcl demo again."):
        results = run_steps(console, seed, epochs, rounds)
    out.mkdir(parents=True, exist_ok=True)
    runs.write_record(out, "demo", {"seed": seed, "epochs": epochs})
    runs.write_json(out / pages.RESULTS["demo"], results)
    page = pages.build(out)
    console.print(f"\n{time.perf_counter() - start:.0f} s. The report: {page}", highlight=False, soft_wrap=True)


def _check_free(out: Path) -> None:
    if runs.occupied(out) and (not out.is_dir() or runs.read_record(out)["kind"] != "demo"):
        raise InputError(f"{out} holds something else than a demo; choose another --out.")


def run_steps(console: Console, seed: int, epochs: int, rounds: int) -> dict[str, Any]:
    """All steps with their tables; the results as they are stored."""
    console.print("[bold]Continual learning[/bold]: digits with captions, two classes at a time\n")
    histories = steps.continual(seed=seed, epochs=epochs, progress=True, notice=lambda h: _show_history(console, h))
    console.print(_comparison(histories))
    console.print("\n[bold]Clustering and search[/bold]: the images alone\n")
    clusters, votes = steps.clustering(seed=seed), steps.classification(seed=seed)
    console.print(_scores(clusters, votes))
    timings = steps.speed(rounds=rounds)
    console.print(_speed(timings))
    return {"continual": histories, "clustering": clusters, "classification": votes, "speed": timings}


def _show_history(console: Console, history: Any) -> None:
    console.print(tables.accuracy_matrix(np.asarray(history.accuracy_matrix), f"{history.method}"))


def _comparison(histories: dict[str, Any]) -> Any:
    rows = [
        (name, *(tables.percent(h["summary"].get(key)) for key in pages.HEADLINES), f"{sum(h['seconds']):.1f}")
        for name, h in histories.items()
    ]
    columns = ("method", *(key.replace("_", " ") for key in pages.HEADLINES), "seconds (timing)")
    return tables.plain("After the last task", columns, rows)


def _scores(clusters: dict[str, Any], votes: dict[str, Any]) -> Any:
    rows = [
        ("k-means, K = 10", "ACC", tables.percent(clusters["acc"], 2)),
        ("", "NMI", f"{clusters['nmi']:.4f}"),
        ("", "ARI", f"{clusters['ari']:.4f}"),
        (f"{votes['neighbors']} nearest neighbours", "accuracy", tables.percent(votes["accuracy"], 2)),
    ]
    return tables.plain("On the images", ("", "score", "value"), rows, left=(0, 1))


def _speed(timings: list[dict[str, Any]]) -> Any:
    rows = []
    for case in timings:
        shape = " ".join(f"{name}={case[name]}" for name in "NMDk")
        if case["seconds"] is None:
            rows.append((case["name"], shape, "–", "–", "answers disagree"))
        else:
            ours, torch = case["seconds"]["ours"], case["seconds"]["torch"]
            rows.append(
                (case["name"], shape, tables.milliseconds(ours), tables.milliseconds(torch), f"{torch / ours:.2f}×")
            )
    columns = ("rows", "shape", "pyfast_mmcl", "torch mm + topk", "torch ÷ ours")
    return tables.plain("Speed of the search (timing)", columns, rows, left=(0, 1))
