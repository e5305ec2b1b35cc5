"""Colours can be read on both papers."""

import pytest

from pyfast_mmcl.report import colours
from pyfast_mmcl.report.style import STYLE


def test_contrast_of_known_pairs():
    assert colours.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert colours.contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert colours.contrast("#ffffff", "#777777") == colours.contrast("#777777", "#ffffff")


@pytest.mark.parametrize("paper", [colours.LIGHT, colours.DARK])
def test_letters_in_every_cell_are_readable_and_cells_leave_the_paper_step_by_step(paper):
    ramp = colours.ramp(paper)
    assert len(ramp) == colours.LEVELS + 1
    assert min(colours.contrast(cell, letters) for cell, letters in ramp) >= 4.5
    away = [colours.contrast(cell, paper) for cell, _ in ramp]
    assert away == sorted(away) and away[-1] > 8


def test_lines_stand_out_from_their_paper():
    for light, dark in colours.LINES:
        assert colours.contrast(light, colours.LIGHT) >= 3 and colours.contrast(dark, colours.DARK) >= 3


@pytest.mark.parametrize(("share", "step"), [(-1, 0), (0, 0), (0.5, 20), (1, 40), (7, 40)])
def test_level(share, step):
    assert colours.level(share) == step


def test_the_sheet_has_each_colour_for_both_themes():
    for name in ("--c7:", "--h0:", "--h40:", "--t40:"):
        assert STYLE.count(name) == 2
    assert ".h40{background:var(--h40);color:var(--t40)}" in STYLE and "LIGHT_" not in STYLE and "DARK_" not in STYLE
