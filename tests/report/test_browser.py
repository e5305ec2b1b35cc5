"""The pages in a real browser: both themes, wide and narrow, nothing cut off, nothing fetched."""

import json
import math
from pathlib import Path

import pytest

from pyfast_mmcl.report import colours, comparison, pages
from pyfast_mmcl.report.collect import collect
from tests.report.browser import colours_of, program, read_off
from tests.report.made import grid, run

METHODS = ("er", "finetune", "joint", "a_method_with_quite_a_long_name")
# Everything that sticks out of its page or of its card, the tables and drawings that are seen, what the page fetched.
PROBE = """JSON.stringify({
  wide: document.documentElement.scrollWidth, window: window.innerWidth,
  out: [...document.querySelectorAll('section, figure, svg.chart, .card, p')]
    .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.tagName),
  cut: [...document.querySelectorAll('svg.chart text')]
    .filter(e => { const a = e.getBoundingClientRect(), b = e.closest('svg').getBoundingClientRect();
                   return a.left < b.left - 1 || a.right > b.right + 1 ||
                          a.top < b.top - 1 || a.bottom > b.bottom + 1; }
    ).map(e => e.textContent),
  charts: [...document.querySelectorAll('svg.chart')].filter(e => e.getBoundingClientRect().width > 200).length,
  cells: document.querySelectorAll('.heat td').length,
  fetched: performance.getEntriesByType('resource').map(e => e.name)})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    program()
    root = tmp_path_factory.mktemp("browser")
    grid(root / "runs", methods=METHODS, seeds=3, streams=("digits",))
    run(root / "runs" / "long", "er", T=11, by_modality={"image": [[0.5] * 11] * 11})
    comparison.write(collect([root / "runs"]), root / "report.html")
    return root / "report.html"


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_drawn_in_its_theme(page, tmp_path, dark):
    seen = colours_of(page, tmp_path / "page.png", 1100, 4500, dark=dark)
    paper, card, other = ("#14171b", colours.DARK, "#fbfbf9") if dark else ("#fbfbf9", colours.LIGHT, "#14171b")
    assert seen[paper] > 0.4 and seen[card] > 0.02 and seen.get(other, 0) < 0.01
    # Lines of the methods and cells of the heat maps are there in the colours of the theme.
    assert all(seen.get(pair[dark], 0) > 1e-5 for pair in colours.LINES[1:4])
    assert sum(seen.get(cell, 0) > 1e-5 for cell, _ in colours.ramp(card)) >= 10


@pytest.mark.parametrize("width", [1200, 500])
def test_nothing_is_cut_off_or_fetched(page, width):
    found = json.loads(read_off(page, PROBE, width).replace("&amp;", "&"))
    assert found["window"] == width and found["wide"] <= width
    assert found["out"] == [] and found["cut"] == [] and found["fetched"] == []
    assert found["charts"] == 4 + 2 and found["cells"] == 4 * 9 + 2 * 121


def test_the_page_of_one_run(page, tmp_path):
    one = pages.build(run(tmp_path / "run", by_modality={"image": [[0.5, math.nan, 0.5]] * 3}))
    seen = colours_of(one, tmp_path / "one.png", 900, 1600)
    assert seen["#fbfbf9"] > 0.4 and seen[colours.LINES[0][0]] > 1e-4
