"""The table of one kNN operation."""

from __future__ import annotations

from benchmarks.cells import markdown, mebibytes, milliseconds, ratio
from benchmarks.families.knn import contestants as who
from benchmarks.families.knn.goals import FAISS_ANYHOW, FAISS_BEST
from benchmarks.goals import by_case, fastest


def op_table(rows: list[dict]) -> str:
    """A line per case: our times, the rivals' times, ratios to the best-tuned faiss, our extra memory."""
    sizes = [letter for letter in "NMDkK" if any(row[letter] for row in rows)]
    others = list(dict.fromkeys(row["contestant"] for row in rows if row["role"] == who.PEER))
    has_faiss = any(row["role"] in FAISS_ANYHOW for row in rows)
    has_packed = any(row["mode"] == "amortised" for row in rows)
    head = [*sizes, "metric", "pyfast ms", *(["packed ms"] if has_packed else [])]
    if has_faiss:
        head += ["faiss installed ms", "faiss best by environment ms", "faiss BLAS forced ms"]
    head += [f"{name} ms" for name in others]
    head += ["× faiss best", "extra MiB"] if has_faiss else ["extra MiB"]
    body = []
    for group in by_case(rows):
        ours, packed = (fastest(group, (who.OURS,), mode) for mode in ("one-shot", "amortised"))
        line = [f"{group[0][letter]:,}" for letter in sizes] + [kind(group[0]), milliseconds(ours)]
        line += [milliseconds(packed)] if has_packed else []
        best = fastest(group, FAISS_ANYHOW)
        if has_faiss:
            line += [milliseconds(fastest(group, (who.FAISS_INSTALLED,)))]
            line += [_named(fastest(group, FAISS_BEST)), milliseconds(fastest(group, (who.FAISS_CODE,)))]
        line += [milliseconds(fastest(group, (name,))) for name in others]
        if has_faiss:
            line += [ratio(best, fastest(group, (who.OURS,)))]
        line += [" / ".join(mebibytes(row) for row in (ours, packed) if row)]
        body.append(tuple(line))
    return markdown(tuple(head), body)


def kind(row: dict) -> str:
    """What else than sizes makes the case: metric, dtype, moving."""
    extras = [
        row["metric"],
        row["dtype"] if row["dtype"] != "float32" else "",
        "moving" if row["moving"] == "True" else "",
    ]
    return " ".join(part for part in extras if part)


def _named(row: dict | None) -> str:
    return "–" if row is None else f"{milliseconds(row)} ({row['contestant'].removeprefix('faiss ')})"
