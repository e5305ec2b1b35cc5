"""`pyfast-mmcl demo` and `pyfast-mmcl report`: results in the terminal and on one HTML page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ._errors import InputError
from .cli_errors import on_interrupt
from .report import demo as steps
from .report import pages, runs, tables


def rebuild(folder: Path) -> None:
    """Write report.html of the run in `folder` again and say where it is."""
    page = pages.build(folder)
    Console().print(f"Wrote {page}", highlight=False, soft_wrap=True)


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
