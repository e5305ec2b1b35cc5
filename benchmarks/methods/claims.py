"""Sentences of papers held against committed results: what was compared, the verdict of the seeds, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.methods import results
from benchmarks.methods.results import Row
from benchmarks.methods.spread import markdown, show, spread
from pyfast_mmcl.metrics.seeds import Spread, paired_difference

HOLDS, FAILS, OPEN, ONE_SEED = "holds", "does not hold", "not decided", "one seed only"
TITLE = "Claims of the papers, checked"
TEXT = (
    "Every line is one comparison that a paper leads one to expect, and what the seeds say: it holds, or does not "
    "hold, where the 95 % Student interval of the difference, paired by seed, lies on one side of zero, and is not "
    "decided where the interval contains zero; one seed has no interval. The figures come from the tables above (mean "
    "± sd over seeds), the reasons are ours. The verdicts are about these small models and sets, not about the papers' "
    "own experiments."
)


@dataclass(frozen=True)
class Claim:
    """``line`` is above (or, with higher=False, below) ``than`` in one measure of one stream.

    said    what the paper says, with its reference
    than    another line of the table, or a number
    stream  which stream of the folder; "" is the only one it has
    equal   the claim is that the two are the same: it holds where the interval lies within ± this much
    why     the reason for the verdict, worked out from the numbers
    """

    said: str
    folder: str
    line: str
    than: str | float
    why: str
    measure: str = "last_accuracy"
    name: str = "accuracy at the end"
    higher: bool = True
    equal: float | None = None
    stream: str = ""


def section(claims: Sequence[Claim], root: Path) -> str:
    """Markdown of all claims whose lines have been measured; "" where there is none."""
    recorded = {folder.name: results.read(folder) for folder in results.folders(root)}
    lines = []
    for claim in claims:
        if claim.folder in recorded:
            found = recorded[claim.folder]
            stream = claim.stream or found.experiment.streams[0]
            line = row(claim, stream, [r for r in found.rows if r.stream == stream])
            lines += [line] if line else []
    if not lines:
        return ""
    head = ("a paper says", "checked on", "figures", "verdict", "why")
    return f"### {TITLE}\n\n{TEXT}\n\n{markdown(head, lines)}"


def row(claim: Claim, stream: str, rows: Sequence[Row]) -> tuple[str, ...] | None:
    """One line of the table, or None where the two sides share no seed."""
    ours, other = values(claim, claim.line, rows), reference(claim, rows)
    difference = paired_difference(ours, other)
    if difference is None:
        return None
    ours, other = ({seed: side[seed] for seed in ours if seed in other} for side in (ours, other))
    both = [figure(claim.line, ours)]
    both += [figure(str(claim.than), other)] if isinstance(claim.than, str) else [f"limit {100 * claim.than:g}"]
    figures = f"{claim.name}: {', '.join(both)} (%, {difference.count} seed{'s' * (difference.count > 1)})"
    return claim.said, stream, figures, verdict(claim, difference), claim.why


def values(claim: Claim, line: str, rows: Sequence[Row]) -> dict[int, float]:
    """{seed: value} of one line."""
    return {r.seed: r.value for r in rows if r.method == line and r.measure == claim.measure}


def reference(claim: Claim, rows: Sequence[Row]) -> dict[int, float]:
    """{seed: value} of what the line is compared with."""
    if isinstance(claim.than, str):
        return values(claim, claim.than, rows)
    return dict.fromkeys(values(claim, claim.line, rows), claim.than)


def figure(line: str, found: dict[int, float]) -> str:
    column = results.Column("", "", "%")
    return f"{line} {show(spread(found.values()), column)}"


def verdict(claim: Claim, difference: Spread) -> str:
    """What the interval of the differences says of the claim."""
    low, high = difference.low, difference.high
    if difference.count == 1:
        return ONE_SEED
    if claim.equal is not None:
        inside, outside = -claim.equal <= low and high <= claim.equal, low > claim.equal or high < -claim.equal
        return HOLDS if inside else FAILS if outside else OPEN
    if not claim.higher:
        low, high = -high, -low
    return HOLDS if low > 0 else FAILS if high < 0 else OPEN
