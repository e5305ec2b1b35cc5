"""The table of one contrastive operation."""

from __future__ import annotations

from benchmarks.cells import markdown, mebibytes, milliseconds, ratio
from benchmarks.families.contrastive import contestants as who
from benchmarks.families.contrastive.cases import VIEWS
from benchmarks.families.contrastive.goals import FLOAT32_RIVALS
from benchmarks.goals import by_case, fastest


def op_table(rows: list[dict]) -> str:
    """A line per case: our times, everyone's times, ratios to eager torch and to the fastest peer, extra memory."""
    sizes = [letter for letter in "NMDC" if any(row[letter] for row in rows)]
    others = [row["contestant"] for row in rows if row["role"] not in (who.OURS, who.OURS_BFLOAT16)]
    others = list(dict.fromkeys(others))
    packed = any(row["mode"] == "amortised" for row in rows)
    views = rows[0]["op"] in VIEWS
    head = ["2N" if views and letter == "N" else letter for letter in sizes]
    head += ["input", "pyfast ms", "bf16 tiles ms", *(["packed ms", "packed bf16 ms"] if packed else [])]
    head += [*(f"{name} ms" for name in others), "× eager", "bf16 × eager", "× best peer", "extra MiB", "eager MiB"]
    body = []
    for group in by_case(rows):
        ours, low = (fastest(group, (role,), "one-shot") for role in (who.OURS, who.OURS_BFLOAT16))
        kept = [fastest(group, (role,), "amortised") for role in (who.OURS, who.OURS_BFLOAT16)] if packed else []
        eager, best = fastest(group, (who.EAGER,)), fastest(group, FLOAT32_RIVALS)
        first = group[0]
        line = [f"{first[letter] * (2 if views and letter == 'N' else 1):,}" for letter in sizes] + [kind(first)]
        line += [milliseconds(row) for row in (ours, low, *kept)]
        line += [milliseconds(fastest(group, (name,))) for name in others]
        line += [ratio(eager, ours), ratio(eager, low), ratio(best, ours)]
        body.append((*line, mebibytes(ours), mebibytes(eager)))
    return markdown(tuple(head), body)


def kind(row: dict) -> str:
    """What else than sizes makes the case."""
    return row["dtype"] if row["direction"] == "both" else f"{row['dtype']}, frozen bank"
