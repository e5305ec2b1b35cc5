"""A report is one file that needs nothing else and shows text as text."""

from __future__ import annotations

import re

import numpy as np

from pyfast_mmcl.report import html, plots

HOSTILE = "<script>alert(1)</script> & \"quotes\" 'too'"


def whole_page() -> str:
    figure = html.figure(plots.accuracy_curves({HOSTILE: [0.1, 0.9]}), "curves", HOSTILE)
    table = html.table([HOSTILE, "b"], [[HOSTILE, 1.5]], left=[0], best=[0])
    blocks = [html.cards([(HOSTILE, HOSTILE)]), html.paragraph(f"{HOSTILE} `code`"), table, html.row(figure)]
    return html.page(HOSTILE, HOSTILE, [html.section(HOSTILE, *blocks)], HOSTILE)


def test_text_is_escaped_everywhere():
    page = whole_page()
    assert "<script" not in page and "alert(1)" in page
    assert html.text(HOSTILE) == "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot; &#x27;too&#x27;"
    assert "<code>code</code>" in page


def test_nothing_is_loaded_from_elsewhere():
    page = whole_page()
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?\s*(?:https?:)?//""", page)
    assert "<svg" in page and "<link" not in page and "@import" not in page


def test_two_figures_of_one_page_share_no_id():
    one = html.svg(plots.cluster_sizes(np.arange(5)), "a")
    two = html.svg(plots.cluster_sizes(np.arange(5)), "b")
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (one, two)]
    assert ids[0] and not ids[0] & ids[1]


def test_the_same_figure_gives_the_same_bytes():
    assert html.svg(plots.cluster_sizes(np.arange(7)), "a") == html.svg(plots.cluster_sizes(np.arange(7)), "a")
