"""The tables of the sampling family."""

from __future__ import annotations

from benchmarks.cells import markdown, mebibytes, milliseconds, ratio
from benchmarks.families.sampling import contestants as who
from benchmarks.families.sampling.cases import GREEDY, SIZES
from benchmarks.goals import by_case, fastest


def op_table(rows: list[dict]) -> str:
    """A line per case: everyone's times, each peer as a multiple of ours, time per item, extra memory."""
    sizes = [letter for letter in SIZES if any(row[letter] for row in rows)]
    others = list(dict.fromkeys(row["contestant"] for row in rows if row["role"] != who.OURS))
    per_item = rows[0]["op"] not in GREEDY
    head = [*sizes, "pyfast ms", *(["ns per item"] if per_item else []), *(f"{name} ms" for name in others)]
    head += [*(f"× {name}" for name in others), "extra MiB"]
    body = []
    for group in by_case(rows):
        first, ours = group[0], fastest(group, (who.OURS,))
        line = [f"{first[letter]:,}" for letter in sizes] + [milliseconds(ours)]
        line += [_per_item(ours)] if per_item else []
        timed = [fastest(group, (name,)) for name in others]
        line += [*(milliseconds(row) for row in timed), *(ratio(row, ours) for row in timed), mebibytes(ours)]
        body.append(tuple(line))
    return markdown(tuple(head), body)


def _per_item(row: dict | None) -> str:
    if row is None:
        return "–"
    return f"{row['median_s'] * 1e9 / (row['N'] if row['op'] == 'reservoir' else row['B']):.0f}"


def kind(row: dict) -> str:
    """What else than sizes makes the case."""
    return row["dtype"]
