"""The table of whole k-means fits in docs/benchmarks.md, from the rows that `benchmarks.kmeans_fit` keeps."""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.cells import markdown

HEAD = ("rows", "library", "iterations", "seconds", "inertia", "its seconds / ours")
ABOUT = (
    "One timed fit each. faiss runs its 25 iterations on all rows, on the BLAS it is fastest with; ours runs the "
    "fewest iterations that reach the inertia faiss ends with, a number known from a fit before the timed one; "
    "scikit-learn runs as many as faiss from its own k-means++. "
    '"heap": standard normal rows without structure; "groups": 3,000 overlapping ones.\n'
)


def section(folder: Path) -> str:
    """Markdown of one machine's fits; empty where there are none."""
    path = folder / "kmeans_fit" / "rows.csv"
    if not path.exists():
        return ""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ours = {row["data"]: float(row["seconds"]) for row in rows if row["contestant"] == "pyfast"}
    first = rows[0]
    shape = f"N = {int(first['N']):,}, D = {first['D']}, K = {int(first['K']):,}"
    made = sorted({f"{row['commit']} ({row['date'][:10]})" for row in rows})
    return (
        f"### k-means, whole fits: {first['machine']}, {first['threads']} threads\n\n{shape}. {ABOUT}\n"
        f"{markdown(HEAD, [_line(row, ours.get(row['data'])) for row in rows])}\n"
        f"Versions: {', '.join(sorted({row['versions'] for row in rows}))}. Commits: {', '.join(made)}.\n"
    )


def _line(row: dict[str, str], ours: float | None) -> tuple[str, ...]:
    seconds = float(row["seconds"])
    ratio = "–" if ours is None or row["contestant"] == "pyfast" else f"{seconds / ours:.2f}"
    return row["data"], row["contestant"], row["iterations"], f"{seconds:.1f}", f"{float(row['inertia']):.5g}", ratio
