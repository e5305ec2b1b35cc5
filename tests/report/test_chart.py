"""Charts are well-formed drawings that show every value and hide no name."""

import math
import re
import xml.etree.ElementTree as tree
from itertools import combinations

import numpy as np
import pytest

from pyfast_mmcl.report import chart

NAN = math.nan


def drawing(markup: str) -> tree.Element:
    return tree.fromstring(markup)


def test_every_name_looks_different():
    looks = chart.marks([f"m{i}" for i in range(160)])
    assert len(set(looks.values())) == 160


def test_lines_have_a_marker_per_value_and_leave_gaps_out():
    looks = chart.marks(["a", "<b>"])
    series = {
        "a": chart.Line([90.0, 50.0, 40.0], [NAN] * 3, [NAN] * 3),
        "<b>": chart.Line([NAN, 20.0, 30.0], [NAN, 15.0, 20.0], [NAN, 25.0, 400.0]),
    }
    svg = chart.lines(series, looks, x="x & y", y="y", alt='say "it"', top=100)
    root = drawing(svg)
    titles = [title.text for title in root.iter("title")]
    assert titles == ["a: 90", "a: 50", "a: 40", "<b>: 20", "<b>: 30"]
    assert root.get("role") == "img" and root.get("aria-label") == 'say "it"'
    assert svg.count('opacity=".13"') == 1
    heights = [float(y) for y in re.findall(r"[ML]\d+\.\d (-?\d+\.\d)", svg)]
    assert min(heights) >= 0 and max(heights) <= chart.HEIGHT


def test_a_single_task_and_equal_values_are_drawn():
    looks = chart.marks(["a"])
    for values in ([50.0], [0.0, 0.0], [NAN, 0.0]):
        none = [NAN] * len(values)
        root = drawing(chart.lines({"a": chart.Line(values, none, none)}, looks, x="", y="", alt=""))
        assert len(list(root.iter("title"))) == sum(map(math.isfinite, values))


@pytest.mark.parametrize("seed", range(5))
def test_names_of_points_cover_neither_each_other_nor_markers(seed):
    rng = np.random.default_rng(seed)
    names = [f"method_{i}" for i in range(12)]
    points = {name: chart.Point(rng.uniform(0, 100), rng.uniform(40, 60), NAN, NAN) for name in names}
    points["method_1"] = points["method_0"]
    root = drawing(chart.scatter(points, chart.marks(names), x="s", y="%", alt=""))
    written = [t for t in root.iter("text") if t.get("class") == "name"]
    assert len(written) >= 9 and {"method_0", "method_1"} <= {t.text for t in written} <= set(names)
    share = {"start": 0.0, "middle": 0.5, "end": 1.0}
    boxes = []
    for t in written:
        left = float(t.get("x")) - share[t.get("text-anchor")] * 6 * len(t.text)
        boxes.append((left, float(t.get("y")) - 9, left + 6 * len(t.text), float(t.get("y"))))
    for one, other in combinations(boxes, 2):
        assert one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
    assert all(0 <= b[0] and b[2] <= chart.WIDTH and 0 <= b[1] and b[3] <= chart.HEIGHT for b in boxes)


def test_names_without_room_are_left_to_the_legend():
    names = [f"method_{i}" for i in range(40)]
    points = {name: chart.Point(5.0, 50.0, NAN, NAN) for name in names}
    root = drawing(chart.scatter(points, chart.marks(names), x="s", y="%", alt=""))
    assert 5 <= len([t for t in root.iter("text") if t.get("class") == "name"]) < 40
    assert len(list(root.iter("title"))) == 40


def test_points_carry_their_interval():
    looks = chart.marks(["a", "b"])
    points = {"a": chart.Point(1.0, 50.0, 40.0, 60.0), "b": chart.Point(100.0, 70.0, NAN, NAN)}
    svg = chart.scatter(points, looks, x="seconds", y="Last (%)", alt="")
    assert svg.count('opacity=".5"') == 1
    assert [t.text for t in drawing(svg).iter("title")] == [
        "a: seconds 1, Last (%) 50.0",
        "b: seconds 100, Last (%) 70.0",
    ]


def test_the_legend_names_all():
    root = drawing(chart.legend(chart.marks(["a & b", "c"])))
    assert ["".join(item.itertext()) for item in root.iter("li")] == ["a & b", "c"]
