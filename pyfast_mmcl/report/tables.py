"""Tables for the terminal (rich)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table


def plain(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    left: Sequence[int] = (0,),
    caption: str | None = None,
) -> Table:
    """A table with words left and numbers right; `left` lists the columns that hold words."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        header_style="bold",
    )
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str:
    # Square brackets would be read as markup.
    return str(value).replace("[", "\\[")


def accuracy_matrix(matrix: np.ndarray, title: str) -> Table:
    """A[i, j] in per cent: accuracy on task j after learning task i, [T, T]; the diagonal is set bold."""
    matrix = np.asarray(matrix, dtype=np.float64)
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        caption="accuracy (%) on each task (columns) after learning each task (rows)",
        caption_justify="left",
    )
    table.add_column("after", justify="left")
    for j in range(matrix.shape[1]):
        table.add_column(f"task {j + 1}", justify="right")
    for i, row in enumerate(matrix):
        values = ["–" if np.isnan(v) else f"{100 * v:.1f}" for v in row]
        table.add_row(f"task {i + 1}", *(f"[bold]{v}[/bold]" if i == j else v for j, v in enumerate(values)))
    return table


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent, or a dash where it is undefined."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.{digits}f} %".replace("-", "−")


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with three significant digits."""
    return f"{1e3 * seconds:.3g} ms"
