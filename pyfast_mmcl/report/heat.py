"""Accuracy matrices as heat maps that are tables: every reader, also one who listens, gets the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import colours
from .html import scroll, text


def heat_map(
    title: str, matrix: np.ndarray, *, sd: np.ndarray | None = None, names: Sequence[str] | None = None
) -> str:
    """A[i, j] in per cent, row i after task i, column j on task j, coloured from 0 to 100.

    What was just learnt is framed, tasks ahead are set in italics, cells that were not measured stay empty.

    title: the caption; sd [T, T]: spread over seeds, shown where the pointer rests; names: of the tasks.
    """
    T = len(matrix)
    names = list(names) if names is not None else [f"task {j + 1}" for j in range(T)]
    head = "".join(f'<th scope="col" title="{text(name)}">{j + 1}</th>' for j, name in enumerate(names))
    body = ""
    for i in range(T):
        cells = "".join(_cell(matrix, sd, i, j, names) for j in range(T))
        body += f'<tr><th scope="row" title="{text(names[i])}">after {i + 1}</th>{cells}</tr>'
    table = (
        f'<table class="heat"><caption>{text(title)}</caption>'
        f'<thead><tr><th scope="col">task</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
    return scroll(table, f"Accuracy matrix of {title}")


def _cell(matrix: np.ndarray, sd: np.ndarray | None, i: int, j: int, names: Sequence[str]) -> str:
    value = float(matrix[i, j])
    if not np.isfinite(value):
        return "<td>–</td>"
    spread = "" if sd is None or not np.isfinite(sd[i, j]) else f" ± {100 * sd[i, j]:.1f}"
    place = "own" if i == j else "ahead" if j > i else ""
    kind = f"h{colours.level(value)} {place}".strip()
    hint = f"{100 * value:.1f}{spread} % on {names[j]} after {names[i]}"
    return f'<td class="{kind}" title="{text(hint)}">{100 * value:.0f}</td>'
