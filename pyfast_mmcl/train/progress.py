"""A progress bar with task, epoch, time left and loss terms, and the accuracy matrix; silent where nobody looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

# Loss terms are read from the device this often: reading them at every step would make the device wait.
_REFRESH_SECONDS = 0.2


class _Live(Progress):
    """A bar below the accuracy matrix."""

    matrix: Table | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.matrix is not None:
            yield self.matrix
        yield from super().get_renderables()


class ProgressBar:
    """``with ProgressBar(total, ...) as bar: bar.advance(...)``. Silent unless ``enabled`` and on a terminal.

    total: steps of the whole run; done: steps that an earlier run has taken.
    """

    def __init__(self, total: int, *, done: int = 0, enabled: bool = True) -> None:
        console = Console(stderr=True)
        self._bar: _Live | None = None
        if enabled and console.is_terminal:
            self._bar = _Live(
                TextColumn("{task.description}"),
                BarColumn(),
                # On a narrow terminal the bar and the terms give way, not how much is left.
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[terms]}", table_column=Column()),
                console=console,
                transient=True,
            )
            self._row = self._bar.add_task("start", total=total, completed=done, terms="")
        self._last = 0.0

    def __enter__(self) -> ProgressBar:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def describe(self, text: str) -> None:
        """Say where the run is."""
        if self._bar is not None:
            self._bar.update(self._row, description=text)

    def matrix(self, accuracy: Sequence[Sequence[float]]) -> None:
        """Show the accuracy matrix as far as it goes: a row per task done, a column per task, in percent."""
        if self._bar is None or not accuracy:
            return
        table = Table(box=None, pad_edge=False)
        table.add_column("accuracy in % after task", justify="right", no_wrap=True)
        for j in range(len(accuracy[0])):
            table.add_column(f"{j + 1}", justify="right", no_wrap=True)
        for i, row in enumerate(accuracy):
            numbers = [f"{100 * x:.1f}" for x in row]
            numbers[i] = f"[bold]{numbers[i]}[/]"
            table.add_row(f"{i + 1}", *numbers)
        self._bar.matrix = table
        self._bar.refresh()

    def skip(self, steps: int) -> None:
        """``steps`` that will not be taken."""
        if self._bar is not None:
            self._bar.advance(self._row, steps)

    def advance(self, terms: Callable[[], dict[str, float]]) -> None:
        """One step done; ``terms`` is asked for the loss terms only now and then."""
        if self._bar is None:
            return
        self._bar.advance(self._row)
        if time.monotonic() - self._last >= _REFRESH_SECONDS:
            self._last = time.monotonic()
            shown = "  ".join(f"{name} {value:.3f}" for name, value in terms().items())
            self._bar.update(self._row, terms=shown)
