"""`pyfast-mmcl bench`: a first look at the speed of this machine; benchmarks/ holds the full comparison."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import typer
from rich.console import Console

from .cli_doctor import usable_cores
from .report import bench, tables

COLUMNS = ("op", "contender", "per call", "ours is", "rows exact", "note")


def show(console: Console, *, rounds: int, seed: int, small: bool) -> None:
    """Compare the three ops and print one table; exit code 1 when an answer of ours is wrong."""
    sizes = (100, 5_000, 64) if small else (1_000, 20_000, 512)
    n, m, d = sizes
    centers = 64 if small else 256
    with console.status("measuring"):
        timings = bench.compare_knn(n, m, d, 10, rounds=rounds, seed=seed)
        timings += bench.compare_nearest(m, centers, d, rounds=rounds, seed=seed)
        timings += bench.compare_lloyd(m, centers, d, rounds=rounds, seed=seed)
    caption = (
        f"knn: N={n:,} queries, M={m:,} rows, k=10; nearest and lloyd_step: N={m:,} rows, K={centers}; D={d}, float32; "
        f"median of {rounds} interleaved calls; {torch.get_num_threads()} threads, {usable_cores()} cores. "
        "A contender is timed only after its answer agreed with float64."
    )
    title = "Speed here and now"
    console.print(tables.plain(title, COLUMNS, table_rows(timings), left=(0, 1, 5), caption=caption))
    if any(t.ours and t.seconds is None for t in timings):
        raise typer.Exit(1)


def table_rows(timings: Sequence[bench.Timing]) -> list[tuple[str, ...]]:
    """Timings as table cells; "ours is" says how many times faster or slower ours is than that contender."""
    ours = {t.op: t.seconds for t in timings if t.ours}
    rows: list[tuple[str, ...]] = []
    for t in timings:
        mine = ours.get(t.op)
        ratio = "" if t.ours or not mine or not t.seconds else _ratio(t.seconds / mine)
        time = "–" if t.seconds is None else tables.milliseconds(t.seconds)
        rows.append((t.op, t.name, time, ratio, tables.percent(t.exact), t.note))
    return rows


def _ratio(times: float) -> str:
    return f"{times:.2g}× faster" if times >= 1 else f"{1 / times:.2g}× slower"
