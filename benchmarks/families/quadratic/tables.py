"""The table of quadratic penalties."""

from __future__ import annotations

from benchmarks.cells import markdown, mebibytes, milliseconds, ratio
from benchmarks.families.quadratic import contestants as who
from benchmarks.goals import by_case, fastest


def op_table(rows: list[dict]) -> str:
    """A line per case: everyone's times, ratios, extra memory of a call and memory kept between calls."""
    names = [row["contestant"] for row in rows if row["role"] not in (who.OURS, who.UNFOLDED)]
    others = list(dict.fromkeys(names))
    head = ["model", "P", "T", "pyfast folded ms", "task by task ms", *(f"{name} ms" for name in others)]
    head += ["× Avalanche", "task by task × Avalanche", "× best folded torch"]
    head += ["extra MiB", "Avalanche extra MiB", "kept MiB", "Avalanche kept MiB"]
    body = []
    for group in by_case(rows):
        ours, unfolded, rival = (fastest(group, (role,)) for role in (who.OURS, who.UNFOLDED, who.AVALANCHE))
        line = [group[0]["model"], f"{group[0]['P']:,}", str(group[0]["T"]), milliseconds(ours), milliseconds(unfolded)]
        line += [milliseconds(fastest(group, (name,))) for name in others]
        line += [ratio(rival, ours), ratio(rival, unfolded), ratio(fastest(group, (who.PLAIN_FOLDED,)), ours)]
        line += [mebibytes(ours), mebibytes(rival), _kept(ours), _kept(rival)]
        body.append(tuple(line))
    return markdown(tuple(head), body)


def _kept(row: dict | None) -> str:
    return "–" if row is None or row["held_mib"] is None else f"{row['held_mib']:.0f}"


def kind(row: dict) -> str:
    """What else than sizes makes the case."""
    return f"{row['model']}, {row['dtype']}"
