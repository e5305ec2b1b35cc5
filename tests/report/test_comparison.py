"""The page over many runs: whole, self-contained, readable for everybody, and true to its runs."""

import math
import re
from urllib.parse import unquote

import pytest

from pyfast_mmcl.report import chart, comparison, export, pages
from pyfast_mmcl.report.collect import collect
from pyfast_mmcl.report.measures import mean_sd
from pyfast_mmcl.report.pooled import pools
from tests.report.made import grid, run
from tests.report.markup import Page, barriers, loads

HOSTILE = "</style><script>alert(1)</script>\" onload='x"


def page_of(place) -> Page:
    found = collect([place])
    return Page(comparison.comparison_page(found, pools(found)))


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    root = grid(tmp_path_factory.mktemp("runs"))
    alone = {"image": [[0.5] * 3] * 3, "text": [[math.nan] * 3, [0.25] * 3, [0.3] * 3]}
    run(root / "small", "er", 0, hyper={"capacity": 5}, by_modality=alone, trainable_parameters=[5000] * 3)
    (run(root / "unfinished", "si") / "history.json").unlink()
    return page_of(root)


def test_it_is_well_formed_and_loads_nothing(page):
    assert page.broken == [] and loads(page) == [] and not page.every("script")


def test_it_has_no_barriers(page):
    assert barriers(page) == []
    assert len(page.every("main")) == len(page.every("nav")) == 1 and page.every("a")[0]["class"] == "skip"


def test_the_check_of_barriers_sees_them():
    text = (
        '<html><body><h1>a</h1><h3>b</h3><svg></svg><table><tr><th>x</th></tr></table><a href="#no">x</a></body></html>'
    )
    assert len(barriers(Page(text))) == 5
    assert Page("<p><b>x</p>").broken and loads(Page('<img src="http://x/y.png">')) == ["http://x/y.png"]


def test_numbers_are_those_of_the_runs(page, tmp_path):
    group = pools(collect([grid(tmp_path, streams=("har",))]))["har · class-incremental · 3 tasks"]
    words = "".join(page.words)
    for pool in group:
        for measure in ("last_accuracy", "forgetting", "zero_shot_transfer"):
            assert mean_sd(pool.spread(measure)) in words
    assert f"{100 * group[0].mean_matrix[2, 0]:.0f}" in words
    assert "95 % confidence interval of the mean, mean ± t[n − 1, 0.975] · sd / √n (Student)" in words


def test_every_stream_and_run_has_its_place(page):
    words = "".join(page.words)
    for text in ("digits · class-incremental · 3 tasks", "er (capacity 5)", "not finished", "Left out", "By modality"):
        assert text in words
    assert len([a for a in page.every("table") if a.get("class") == "heat"]) == 4 + 3 + 2
    charts = [a for a in page.every("svg") if a.get("class") == "chart"]
    # Accuracy, forgetting, seconds and kept bytes for both streams; trainable parameters where a run says them.
    assert len(charts) == 9


def test_the_best_is_bold_and_baselines_do_not_compete(page):
    assert page.text.count('<td class="best">') > 0  # er and er with a small memory
    assert export.baselines() >= {"finetune", "joint"}
    for row in re.findall(r'<tr><th scope="row">(?:finetune|joint)</th>.*?</tr>', page.text):
        assert 'class="best"' not in row


def test_differences_from_finetune_leave_finetune_out(page):
    (first, _) = re.findall(r"<caption>Difference from finetune.*?</table>", page.text, re.DOTALL)
    assert '<th scope="row">joint</th>' in first and '<th scope="row">finetune</th>' not in first


def test_files_beside_the_page_are_what_its_buttons_save(tmp_path):
    found = collect([grid(tmp_path / "runs", seeds=2)])
    files = comparison.write(found, tmp_path / "report.html")
    assert [f.name for f in files] == ["report.html", "report-runs.csv", "report-means.csv", "report.tex"]
    text = files[0].read_text(encoding="utf-8")
    saved = dict(re.findall(r'download="([^"]*)" href="data:text/\w+;charset=utf-8,([^"]*)"', text))
    assert unquote(saved["runs.csv"]) == files[1].read_text() and unquote(saved["means.csv"]) == files[2].read_text()
    assert unquote(saved["tables.tex"]) == files[3].read_text()
    again = comparison.write(found, tmp_path / "again.html")
    assert [a.read_bytes() for a in files] == [b.read_bytes() for b in again]


def test_names_cannot_break_the_page(tmp_path):
    for seed in (0, 1):
        run(tmp_path / f"a{seed}", HOSTILE, seed, stream=HOSTILE, hyper={HOSTILE: seed}, tasks=[HOSTILE] * 3)
    page = page_of(tmp_path)
    assert page.broken == [] and loads(page) == [] and barriers(page) == []
    assert not page.every("script") and not any("onload" in a for _, a in page.elements)
    assert HOSTILE in "".join(page.words)


def test_a_page_says_what_was_measured(tmp_path):
    run(tmp_path / "a", stream="emoji", measure="recall_at_1", by_modality={"image to text": [[0.5] * 3] * 3})
    words = "".join(page_of(tmp_path).words)
    assert "emoji · class-incremental · 3 tasks · R@1" in words and "R@1 (%) on each task (columns)" in words
    assert "Accuracy (%) on each task" not in words and "image to text" in words


def test_one_run_of_one_task(tmp_path):
    run(tmp_path / "a", T=1)
    page = page_of(tmp_path)
    assert page.broken == [] and barriers(page) == []
    assert len([a for a in page.every("svg") if a.get("class") == "chart"]) == 1


def test_looks_stay_with_a_method_over_all_streams(page):
    inks = set(re.findall(r'<circle[^>]*fill="(var\(--c\d\))"/><title>er: ', page.text))
    assert inks == {chart.marks(["er", "er (capacity 5)", "finetune", "joint"])["er"].ink}


@pytest.mark.parametrize("fields", [{}, {"losses": []}, {"by_modality": {"image": [[0.5] * 3] * 3}}])
def test_the_page_of_one_run(tmp_path, fields):
    page = Page(pages.build(run(tmp_path / "a", **fields)).read_text(encoding="utf-8"))
    assert page.broken == [] and loads(page) == [] and barriers(page) == [] and not page.every("script")
    words = "".join(page.words)
    assert "Training run: er" in words and "over seeds" not in words.split("Definitions")[0]
    assert ("no gradient steps" in words) == ("losses" in fields) and ("By modality" in words) == (
        "by_modality" in fields
    )
