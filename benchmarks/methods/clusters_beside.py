"""Ours and a peer's form of the same method side by side: who finds the classes better, who is faster."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.methods import results
from benchmarks.methods.clusters_lines import LINES
from benchmarks.methods.results import Column, Row
from benchmarks.methods.spread import Spread, markdown, show, spread
from pyfast_mmcl.metrics.seeds import paired_difference

TITLE = "Clusterings beside the same method elsewhere"
TEXT = (
    "Over the seeds that both lines have, so that means may differ from those of the tables above. Quality: within one "
    "sd, where the mean ACC of ours is no further below the peer's than one standard deviation (the larger of the two: "
    "the noisier the runs, the less this says); better or worse, where the 95 % Student interval of the difference, "
    "paired by seed, lies on one side of zero. Fewer than three seeds have no verdict. Speed is the peer's CPU seconds "
    "divided by ours, the geometric mean over seeds: the runs were made in turns on a machine that did other work too, "
    "so that the ratio counts and not the seconds. The deep methods are bound by the products of their networks, which "
    "ours runs at about twice the rate of torch's choice on this CPU in float32; bf16 is the same with "
    'Training(precision="bf16"), which ClustPy has no switch for. Rows of several commits are mixed (see each table).'
)
WITHIN, BETTER, WORSE, FEW = "within one sd", "better", "worse", "too few seeds"
LEAST_SEEDS = 3
GOAL = 2.0  # times as fast
_PERCENT = Column("acc", "ACC", "%")


def section(root: Path) -> str:
    """Markdown of all pairs that have been measured; "" where there is none."""
    lines = [line for folder in results.folders(root) if folder.name.startswith("clusters-") for line in pairs(folder)]
    if not lines:
        return ""
    head = ("data", "method", "ACC (%)", "beside", "its ACC (%)", "quality", "times as fast", f"{GOAL:g}×", "seeds")
    return f"### {TITLE}\n\n{TEXT}\n\n{markdown(head, lines)}"


def pairs(folder: Path) -> list[tuple[str, ...]]:
    """Lines of the table: every peer's form of a method in a result folder beside ours."""
    recorded = results.read(folder)
    lines = []
    for name in recorded.experiment.methods:
        for ours in LINES[name].beside if name in LINES else ():
            line = pair(recorded.rows, ours, name)
            lines += [(recorded.experiment.title.removesuffix(", clusters"), *line)] if line else []
    return lines


def pair(rows: Sequence[Row], ours: str, peer: str) -> tuple[str, ...] | None:
    """One line, over the seeds that both have; None where they share none."""
    a, b = values(rows, ours, "acc"), values(rows, peer, "acc")
    seeds = [seed for seed in a if seed in b]
    if not seeds:
        return None
    ratio = times_as_fast(values(rows, ours, "cpu_seconds"), values(rows, peer, "cpu_seconds"))
    left, right = spread(a[s] for s in seeds), spread(b[s] for s in seeds)
    return (
        ours,
        show(left, _PERCENT),
        peer,
        show(right, _PERCENT),
        quality(a, b, left, right),
        f"{ratio:.2f}",
        "yes" if ratio >= GOAL else "no",
        str(len(seeds)),
    )


def quality(a: Mapping[int, float], b: Mapping[int, float], left: Spread, right: Spread) -> str:
    """The verdict on values {seed: ACC} of ours and a peer."""
    difference = paired_difference(a, b)
    if difference is None or difference.count < LEAST_SEEDS:
        return FEW
    if difference.low > 0:
        return BETTER
    if left.mean >= right.mean - max(left.sd, right.sd):
        return WITHIN
    return WORSE if difference.high < 0 else f"{WORSE}, not decided"


def times_as_fast(a: Mapping[int, float], b: Mapping[int, float]) -> float:
    """Geometric mean over shared seeds of b / a."""
    logs = [math.log(b[seed] / a[seed]) for seed in a if seed in b]
    return math.exp(math.fsum(logs) / len(logs))


def values(rows: Sequence[Row], method: str, measure: str) -> dict[int, float]:
    """{seed: value} of one line."""
    return {row.seed: row.value for row in rows if row.method == method and row.measure == measure}
