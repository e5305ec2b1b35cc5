"""Line charts and scatter plots as inline SVG in the colours of the page: drawn for light and for dark alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import colours, scales
from .html import text

WIDTH, HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 44
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
# Where the name of a point may stand, the nearest places first.
_AROUND = (
    *((10, 4, "start"), (-10, 4, "end"), (0, -10, "middle"), (0, 18, "middle")),
    *((dx, 4 + dy, anchor) for dy in (-13, 13, -26, 26, -39, 39) for dx, anchor in ((10, "start"), (-10, "end"))),
)
_SHAPES = ("circle", "square", "triangle", "diamond", "cross")


@dataclass(frozen=True)
class Mark:
    """How a method looks in every chart of a page: a colour (0 … 7), a dash and a shape."""

    colour: int
    dash: str
    shape: str

    @property
    def ink(self) -> str:
        return f"var(--c{self.colour})"


@dataclass(frozen=True)
class Line:
    """Values at 1, 2, … (NaN where there is none) with the band [low, high] around them (NaN for no band)."""

    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Point:
    """A place with its whiskers upwards, low ≤ y ≤ high (NaN for none)."""

    x: float
    y: float
    low: float
    high: float


def marks(names: Sequence[str]) -> dict[str, Mark]:
    """A look of its own for every name; 160 names go round all of them."""
    colour, dash, shape = len(colours.LINES), len(_DASHES), len(_SHAPES)
    return {
        name: Mark(i % colour, _DASHES[i // colour % dash], _SHAPES[(i + i // colour) % shape])
        for i, name in enumerate(names)
    }


def legend(looks: Mapping[str, Mark]) -> str:
    """The names with their looks, as a list."""
    items = ""
    for name, mark in looks.items():
        drawing = _stroke("M1 7H33", mark) + marker(17, 7, mark)
        items += f'<li><svg width="34" height="14" aria-hidden="true">{drawing}</svg>{text(name)}</li>'
    return f'<ul class="legend" aria-label="Legend">{items}</ul>'


def lines(
    series: Mapping[str, Line], looks: Mapping[str, Mark], *, x: str, y: str, alt: str, top: float = math.inf
) -> str:
    """One line per name with its band; nothing is drawn above ``top``.

    alt: what a listener hears in place of the drawing.
    """
    reach = [v for line in series.values() for v in (*line.values, *line.low, *line.high) if math.isfinite(v)]
    reach = [min(v, top) for v in reach]
    across = scales.whole(max(len(line.values) for line in series.values()), _LEFT, WIDTH - _RIGHT)
    up = scales.linear([*reach, 0.0], HEIGHT - _BOTTOM, _TOP)
    bands = "".join(_band(line, looks[name], across, up) for name, line in series.items())
    drawn = "".join(_line(name, line, looks[name], across, up) for name, line in series.items())
    return _frame(across, up, x, y, bands + drawn, alt)


def scatter(points: Mapping[str, Point], looks: Mapping[str, Mark], *, x: str, y: str, alt: str) -> str:
    """One marker per name, named beside it where there is room."""
    across = scales.cost([p.x for p in points.values()], _LEFT, WIDTH - _RIGHT)
    reach = [v for p in points.values() for v in (p.y, p.low, p.high) if math.isfinite(v)]
    up = scales.linear(reach, HEIGHT - _BOTTOM, _TOP)
    places = {name: (across(p.x), up(p.y)) for name, p in points.items()}
    drawn = "".join(_point(name, p, looks[name], places[name], up, x, y) for name, p in points.items())
    return _frame(across, up, x, y, drawn + _names(places), alt)


def _line(name: str, line: Line, mark: Mark, across: scales.Scale, up: scales.Scale) -> str:
    dots = [(across(i + 1), up(v), v) for i, v in enumerate(line.values) if math.isfinite(v)]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py, _ in dots) if dots else ""
    markers = "".join(f"<g>{marker(px, py, mark)}<title>{text(name)}: {v:.3g}</title></g>" for px, py, v in dots)
    return _stroke(path, mark) + markers


def _band(line: Line, mark: Mark, across: scales.Scale, up: scales.Scale) -> str:
    edges = [
        (across(i + 1), up(max(low, up.low)), up(min(high, up.high)))
        for i, (low, high) in enumerate(zip(line.low, line.high, strict=True))
        if math.isfinite(low) and math.isfinite(high)
    ]
    if len(edges) < 2:
        return ""
    there = [f"{px:.1f} {top:.1f}" for px, _, top in edges]
    back = [f"{px:.1f} {bottom:.1f}" for px, bottom, _ in reversed(edges)]
    return f'<path d="M{"L".join(there + back)}Z" fill="{mark.ink}" opacity=".13"/>'


def _point(name: str, point: Point, mark: Mark, place: tuple[float, float], up: scales.Scale, x: str, y: str) -> str:
    px, py = place
    whisker = ""
    if math.isfinite(point.low) and math.isfinite(point.high):
        whisker = f'<path d="M{px:.1f} {up(point.low):.1f}V{up(point.high):.1f}" stroke="{mark.ink}" opacity=".5"/>'
    hint = f"{name}: {x} {point.x:.3g}, {y} {point.y:.1f}"
    return f"<g>{whisker}{marker(px, py, mark, 5.5)}<title>{text(hint)}</title></g>"


def _names(places: Mapping[str, tuple[float, float]]) -> str:
    """Names beside their markers, each at the first free place around it; one without room is left to the legend."""
    taken = [(px - 6, py - 6, px + 6, py + 6) for px, py in places.values()]
    drawn = ""
    for name, (px, py) in sorted(places.items(), key=lambda item: item[1][1]):
        for dx, dy, anchor in _AROUND:
            box = _box(px + dx, py + dy, 6.6 * len(name) + 4, anchor)
            if _LEFT <= box[0] and box[2] <= WIDTH and _TOP <= box[1] and box[3] <= HEIGHT - _BOTTOM:
                if not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    place = f'x="{px + dx:.1f}" y="{py + dy:.1f}" text-anchor="{anchor}"'
                    drawn += f'<text class="name" {place}>{text(name)}</text>'
                    break
    return drawn


def _box(px: float, py: float, width: float, anchor: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a line of text whose foot is at (px, py)."""
    left = px - {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor] * width
    return left, py - 10, left + width, py + 3


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _frame(across: scales.Scale, up: scales.Scale, x: str, y: str, inside: str, alt: str) -> str:
    """Grid, ticks and names of the axes around a drawing."""
    bottom, middle = HEIGHT - _BOTTOM, (_TOP + HEIGHT - _BOTTOM) / 2
    grid = ""
    for value, words in up.ticks:
        at = up(value)
        grid += f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>'
        grid += f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{words}</text>'
    for value, words in across.ticks:
        at = across(value)
        grid += f'<path class="axis" d="M{at:.1f} {bottom}v4"/>'
        grid += f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{words}</text>'
    if up.low < 0 < up.high:
        grid += f'<path class="axis" d="M{_LEFT} {up(0.0):.1f}H{WIDTH - _RIGHT}"/>'
    axes = f'<path class="axis" fill="none" d="M{_LEFT} {_TOP}V{bottom}H{WIDTH - _RIGHT}"/>'
    titles = (
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{HEIGHT - 7}" text-anchor="middle">{text(x)}</text>'
        f'<text transform="translate(13 {middle}) rotate(-90)" text-anchor="middle">{text(y)}</text>'
    )
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg class="chart" role="img" aria-label="{text(alt)}" {size}>{grid}{axes}{inside}{titles}</svg>'


def _stroke(path: str, mark: Mark) -> str:
    dashes = f' stroke-dasharray="{mark.dash}"' if mark.dash else ""
    return f'<path d="{path}" fill="none" stroke="{mark.ink}" stroke-width="2"{dashes}/>' if path else ""


def marker(px: float, py: float, mark: Mark, r: float = 3.6) -> str:
    if mark.shape == "circle":
        return f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{r}" fill="{mark.ink}"/>'
    if mark.shape == "cross":
        path = f"M{px - r:.1f} {py - r:.1f}l{2 * r} {2 * r}m0 {-2 * r}l{-2 * r} {2 * r}"
        return f'<path d="{path}" fill="none" stroke="{mark.ink}" stroke-width="2.4"/>'
    corners = {
        "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
        "triangle": ((0, -1.25), (1.2, 0.9), (-1.2, 0.9)),
        "diamond": ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    }[mark.shape]
    path = "M" + "L".join(f"{px + r * dx:.1f} {py + r * dy:.1f}" for dx, dy in corners) + "Z"
    return f'<path d="{path}" fill="{mark.ink}"/>'
