"""Colours that can be read on light and on dark paper: ramps of heat maps, colours of lines, contrast of both."""

from __future__ import annotations

import numpy as np

# Papers of the two themes: the cards that drawings lie on.
LIGHT, DARK = "#ffffff", "#1c2026"
# One pair (light, dark) per line colour; all stand out from their paper by 3 : 1. Markers and dashes say the same to
# readers who do not tell them apart.
LINES = (
    ("#0b6aa8", "#5fb2ee"),
    ("#c2570c", "#f29a52"),
    ("#0a7f5a", "#3cc795"),
    ("#a63a7f", "#e58fc4"),
    ("#6b4fc0", "#ac9cf2"),
    ("#b3261e", "#f28b82"),
    ("#7a6400", "#d3b94a"),
    ("#5c6470", "#a7b0bb"),
)
LEVELS = 40
# Pale to deep on light paper, deep to pale on dark paper: more is always further from the paper.
_RAMPS = {LIGHT: ("#f2f6fa", "#5fa3d3", "#08306b"), DARK: ("#232a32", "#2b6ea6", "#b5e1ff")}


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" in [0, 1] (WCAG 2.2)."""
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def ramp(paper: str) -> list[tuple[str, str]]:
    """LEVELS + 1 pairs (colour of a cell, colour of the letters in it) from 0 to the top."""
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in _RAMPS[paper]], dtype=float)
    places = np.linspace(0, len(stops) - 1, LEVELS + 1)
    channels = [np.interp(places, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    cells = ["#{:02x}{:02x}{:02x}".format(*(round(v) for v in rgb)) for rgb in zip(*channels, strict=True)]
    return [(cell, max(("#000000", "#ffffff"), key=lambda letters: contrast(cell, letters))) for cell in cells]


def rules(paper: str) -> str:
    """CSS of the colours on one paper: --c0 … for lines, --h0 … for cells of heat maps with their letters --t0 …."""
    side = 0 if paper == LIGHT else 1
    lines = [f"--c{i}:{pair[side]}" for i, pair in enumerate(LINES)]
    cells = [f"--h{i}:{cell};--t{i}:{letters}" for i, (cell, letters) in enumerate(ramp(paper))]
    return ";".join(lines + cells)


def level(share: float) -> int:
    """Which step of the ramp a share of the top value has."""
    return round(LEVELS * min(max(share, 0.0), 1.0))
