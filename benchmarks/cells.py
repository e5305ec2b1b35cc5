"""Cells and tables of the generated page."""

from __future__ import annotations


def milliseconds(row: dict | None) -> str:
    if row is None:
        return "–"
    few = f" ({row['repeats']} turns)" if row["repeats"] < 7 else ""
    return f"{row['median_s'] * 1e3:.4g}{few}"


def ratio(rival: dict | None, ours: dict | None) -> str:
    return "–" if rival is None or ours is None else f"{rival['median_s'] / ours['median_s']:.2f}"


def mebibytes(row: dict | None) -> str:
    return "–" if row is None or row["extra_mib"] is None else f"{row['extra_mib']:.0f}"


def markdown(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
