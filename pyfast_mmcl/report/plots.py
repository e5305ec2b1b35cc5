"""The drawings of a report, each a function from numbers to a matplotlib Figure (object API, no pyplot state)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .html import INK

# Okabe and Ito's palette: told apart by colour-blind readers, on light and on dark paper.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C")


def canvas(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `width` × `height` inches with `columns` axes, spines and letters in the page's ink."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    axes = [fig.add_subplot(1, columns, i + 1) for i in range(columns)]
    for ax in axes:
        ax.tick_params(colors=INK, labelsize=8, length=3)
        for side, spine in ax.spines.items():
            spine.set_color(INK)
            spine.set_linewidth(0.6)
            spine.set_visible(side in ("left", "bottom"))
    return fig, axes


def save(fig: Figure, stream: BinaryIO, kind: str) -> None:
    """Write the figure as "svg" or "png" on white paper; equal figures are equal bytes."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": kind}):
        undated = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        fig.savefig(stream, format=kind, dpi=150, facecolor="white", metadata=undated)


def label(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Title and axis names in the page's ink."""
    ax.set_title(title, color=INK, fontsize=10)
    ax.set_xlabel(x, color=INK, fontsize=9)
    ax.set_ylabel(y, color=INK, fontsize=9)


def heat_map(
    ax: Axes, values: np.ndarray, *, colours: str = "Blues", top: float | None = None, form: str = "{:.0f}"
) -> None:
    """Cells coloured by value with the value written in each; NaN cells stay empty. Drawn as vectors, row 0 on top."""
    rows, columns = values.shape
    top = top if top is not None else float(np.nanmax(values, initial=1e-12))
    mesh = ax.pcolormesh(
        np.ma.masked_invalid(values), cmap=colours, vmin=0.0, vmax=top, linewidth=0.5, edgecolor="#ffffff30"
    )
    mesh.set_rasterized(False)
    for i in range(rows):
        for j in range(columns):
            if np.isfinite(values[i, j]):
                dark = values[i, j] > 0.55 * top
                ax.text(
                    j + 0.5,
                    i + 0.5,
                    form.format(values[i, j]),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="#ffffff" if dark else "#1d2129",
                )
    ax.set_xlim(0, columns)
    ax.set_ylim(rows, 0)
    ax.set_xticks(np.arange(columns) + 0.5)
    ax.set_yticks(np.arange(rows) + 0.5)
    ax.tick_params(length=0)
    ax.set_frame_on(False)


def accuracy_matrices(matrices: Mapping[str, np.ndarray]) -> Figure:
    """One heat map per method: accuracy in per cent on task j (columns) after learning task i (rows), [T, T] each."""
    n_tasks = max(np.asarray(m).shape[0] for m in matrices.values())
    side = max(2.2, 0.42 * n_tasks + 1.0)
    fig, axes = canvas(side * len(matrices), side + 0.2, len(matrices))
    for ax, (name, matrix) in zip(axes, matrices.items(), strict=True):
        percent = 100.0 * np.asarray(matrix, dtype=np.float64)
        heat_map(ax, percent, top=100.0)
        ax.set_xticklabels([str(j + 1) for j in range(percent.shape[1])])
        ax.set_yticklabels([str(i + 1) for i in range(percent.shape[0])])
        ax.set_aspect("equal")
        label(ax, name, "accuracy on task", "after task" if ax is axes[0] else "")
    return fig


def accuracy_curves(curves: Mapping[str, Sequence[float]]) -> Figure:
    """Mean accuracy over the tasks seen so far (per cent) after each task, one line per method."""
    fig, (ax,) = canvas(4.4, 2.9)
    for colour, (name, values) in zip(PALETTE, curves.items(), strict=False):
        steps = np.arange(1, len(values) + 1)
        ax.plot(steps, 100.0 * np.asarray(values), color=colour, marker="o", markersize=4, linewidth=1.8, label=name)
    ax.set_ylim(0, 102)
    ax.set_xticks(range(1, max(len(v) for v in curves.values()) + 1))
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK)
    label(ax, "", "tasks learnt", "mean accuracy, seen tasks (%)")
    return fig


def bars(values: Mapping[str, np.ndarray], groups: Sequence[str], *, x: str = "", y: str = "") -> Figure:
    """Grouped vertical bars: one group per entry of `groups`, one colour per series."""
    fig, (ax,) = canvas(4.4, 2.9)
    width = 0.8 / len(values)
    for i, (colour, (name, heights)) in enumerate(zip(PALETTE, values.items(), strict=False)):
        offset = (i - (len(values) - 1) / 2) * width
        ax.bar(np.arange(len(groups)) + offset, heights, width * 0.92, color=colour, label=name)
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.axhline(0.0, color=INK, linewidth=0.6)
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    ax.set_axisbelow(True)
    if len(values) > 1:
        ax.legend(frameon=False, fontsize=8, labelcolor=INK)
    label(ax, "", x, y)
    return fig


def confusion(counts: np.ndarray, *, x: str = "", y: str = "") -> Figure:
    """Counts [R, C] as a heat map; zeros are left blank, because most cells of a good clustering are zero."""
    shown = np.where(np.asarray(counts) > 0, np.asarray(counts, dtype=np.float64), np.nan)
    rows, columns = shown.shape
    fig, (ax,) = canvas(0.4 * columns + 1.0, 0.34 * rows + 0.8)
    heat_map(ax, shown, colours="Greens")
    ax.set_xticklabels([str(j) for j in range(columns)])
    ax.set_yticklabels([str(i) for i in range(rows)])
    label(ax, "", x, y)
    return fig


def montage(images: np.ndarray, *, row_names: Sequence[str], first: str, rest: str) -> Figure:
    """Images [K, S, H, W], one row per cluster: the centre at the left, members to the right of a gap."""
    n_rows, n_columns, height, width = images.shape
    gap = max(1, width // 2)
    sheet = np.full((n_rows * (height + 1), n_columns * (width + 1) + gap), np.nan)
    for i in range(n_rows):
        for j in range(n_columns):
            top, left = i * (height + 1), j * (width + 1) + (gap if j else 0)
            tile = images[i, j].astype(np.float64)
            sheet[top : top + height, left : left + width] = tile / max(float(tile.max()), 1e-12)
    fig, (ax,) = canvas(0.36 * n_columns + 1.0, 0.34 * n_rows + 0.5)
    palette = matplotlib.colormaps["gray_r"].with_extremes(bad=(0, 0, 0, 0))
    # Upsampled by hand: viewers smooth small embedded pictures, which would blur 8×8 pixels.
    ax.imshow(np.kron(sheet, np.ones((4, 4))), cmap=palette, vmin=0.0, vmax=1.0, interpolation="none")
    ax.set_frame_on(False)
    ax.tick_params(length=0)
    ax.set_yticks([4 * (i * (height + 1) + height / 2) for i in range(n_rows)], row_names)
    centre, members = 4 * width / 2, 4 * (gap + (width + 1) * (n_columns + 1) / 2)
    ax.set_xticks([centre, members], [first, rest])
    ax.xaxis.tick_top()
    return fig


def speed_bars(rows: Sequence[tuple[str, float]], *, ours: Sequence[str] = ()) -> Figure:
    """Horizontal bars of milliseconds, shorter is faster; the names in `ours` carry the accent colour."""
    fig, (ax,) = canvas(5.6, 0.36 * len(rows) + 0.9)
    names, values = [name for name, _ in rows], [1e3 * seconds for _, seconds in rows]
    ax.barh(names, values, color=[PALETTE[0] if n in ours else PALETTE[-1] for n in names], height=0.62)
    for i, value in enumerate(values):
        ax.text(value, i, f" {value:.3g} ms", va="center", fontsize=8, color=INK)
    ax.set_xlim(0, 1.22 * max(values))
    ax.invert_yaxis()
    label(ax, "", "milliseconds per call (median; lower is better)")
    return fig


def cluster_sizes(counts: np.ndarray) -> Figure:
    """Rows per cluster, largest first, as a filled step: readable for ten clusters and for ten thousand."""
    ordered = np.sort(np.asarray(counts))[::-1]
    fig, (ax,) = canvas(5.6, 2.6)
    ax.fill_between(
        np.arange(len(ordered) + 1),
        np.append(ordered, ordered[-1:]),
        step="post",
        color=PALETTE[0],
        alpha=0.85,
        linewidth=0,
    )
    ax.set_xlim(0, len(ordered))
    ax.set_ylim(0, 1.05 * max(int(ordered[0]), 1))
    ax.axhline(float(np.mean(ordered)), color=PALETTE[1], linewidth=1.4, label="mean")
    ax.legend(frameon=False, fontsize=8, labelcolor=INK)
    label(ax, "", "clusters, largest first", "rows")
    return fig


def losses(terms: Mapping[str, Sequence[float]]) -> Figure:
    """Mean of each loss term over the epochs of all tasks, one line per term."""
    fig, (ax,) = canvas(5.6, 2.6)
    for colour, (name, values) in zip(PALETTE, terms.items(), strict=False):
        ax.plot(np.arange(1, len(values) + 1), values, color=colour, linewidth=1.6, label=name)
    # Terms such as a similarity may be negative.
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]) if ax.dataLim.y0 < 0 else 0.0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    ax.legend(frameon=False, fontsize=8, labelcolor=INK)
    label(ax, "", "epoch, all tasks in a row", "loss term")
    return fig
