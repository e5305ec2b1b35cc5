"""The table of Fisher diagonals."""

from __future__ import annotations

from benchmarks.cells import markdown, mebibytes, milliseconds, ratio
from benchmarks.families.fisher import contestants as who
from benchmarks.goals import by_case, fastest


def op_table(rows: list[dict]) -> str:
    """A line per case: everyone's times, ours as a multiple of the plain step, extra memory."""
    names = [row["contestant"] for row in rows if row["role"] != who.OURS]
    others = list(dict.fromkeys(names))
    head = ["model", "N", "B", "pyfast ms", *(f"{name} ms" for name in others)]
    head += ["ours ÷ forward and backward", "× loop of one", "× vmap", "extra MiB", "plain extra MiB"]
    body = []
    for group in by_case(rows):
        ours, step = (fastest(group, (role,)) for role in (who.OURS, who.STEP))
        line = [group[0]["model"], f"{group[0]['N']:,}", f"{group[0]['B']:,}", milliseconds(ours)]
        line += [milliseconds(fastest(group, (name,))) for name in others]
        line += [ratio(ours, step), *(ratio(fastest(group, (role,)), ours) for role in (who.LOOP, who.VMAP))]
        body.append((*line, mebibytes(ours), mebibytes(step)))
    return markdown(tuple(head), body)


def kind(row: dict) -> str:
    """What else than sizes makes the case."""
    return f"{row['model']}, {row['dtype']}"
