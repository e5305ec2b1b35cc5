"""Exports hold the exact numbers, and LaTeX that compiles whatever a method is called."""

import csv
import io
import math
import re
from urllib.parse import unquote

import pytest

from pyfast_mmcl.metrics.seeds import over_seeds
from pyfast_mmcl.report import export
from pyfast_mmcl.report.collect import collect
from pyfast_mmcl.report.measures import COSTS, MEASURES
from pyfast_mmcl.report.pooled import pools
from tests.report.made import grid, history, run


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_runs_are_exact(tmp_path):
    rows = table(export.runs_csv(collect([grid(tmp_path)])))
    assert len(rows) == 18 and {row["stream"][:4] for row in rows} == {"digi", "har "}
    row = next(r for r in rows if (r["method"], r["seed"]) == ("er", "2"))
    for name, value in history("er", 2).summary().items():
        assert float(row[name]) == value
    assert float(row["seconds"]) == 7.5 and row["trainable_thousands"] == ""


def test_means_are_exact(tmp_path):
    rows = table(export.means_csv(pools(collect([grid(tmp_path)]))))
    (row,) = [r for r in rows if r["method"] == "er" and r["measure"] == "forgetting" and r["stream"].startswith("har")]
    expected = over_seeds(history("er", seed).summary()["forgetting"] for seed in range(3))
    found = [float(row[name]) for name in ("mean", "sd", "low_95", "high_95", "seeds")]
    assert found == [expected.mean, expected.sd, expected.low, expected.high, 3]
    assert {r["measure"] for r in rows} >= {m.name for m in MEASURES} | {"seconds"}
    assert {c.name for c in COSTS} - {r["measure"] for r in rows} == {"trainable_thousands"}


def test_one_seed_has_empty_cells_for_its_spread(tmp_path):
    rows = table(export.means_csv(pools(collect([run(tmp_path / "a")]))))
    assert rows[0]["sd"] == rows[0]["low_95"] == "" and rows[0]["mean"]


def test_the_matrix(tmp_path):
    made = history(T=2)
    rows = list(csv.reader(io.StringIO(export.matrix_csv(made))))
    assert rows[0] == ["after", "task 0", "task 1"] and rows[1] == ["untrained", "0.1", "0.1"]
    assert [[float(v) for v in row[1:]] for row in rows[2:]] == made.accuracy


METHODS = ("derpp", "er", "joint")


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.endswith(r"\\")]


def test_latex_of_one_stream(tmp_path):
    text = export.latex(pools(collect([grid(tmp_path, METHODS, streams=("my_data & 50%",))])))
    assert r"my\_data \& 50\%" in text and r"$\cdot$" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0 and text.isascii()
    head, *body = lines_of(text)
    assert len(body) == 3 and {line.count("&") for line in (head, *body)} == {len(MEASURES)}
    mean = 100 * over_seeds(history("er", s).summary()["last_accuracy"] for s in range(3)).mean
    line = next(line for line in body if line.startswith("er "))
    assert f"{mean:.1f}" in line and r"\pm" in line and "over 3 seed(s)" in text
    # Bold is the best of er and derpp; joint, an upper bound, does not compete.
    bold = [line.split(" ")[0] for line in body if r"\mathbf" in line.split("&")[1]]
    assert len(bold) == 1 and bold[0] in ("er", "derpp")


def test_latex_of_several_streams_begins_with_all_of_them(tmp_path):
    run(tmp_path / "single", "mas", stream="har")
    table_pools = pools(collect([grid(tmp_path / "grid", METHODS), tmp_path / "single"]))
    text = export.latex(table_pools)
    assert text.count(r"\begin{tabular}") == 3 and "over 1 to 3 seed(s)" in text
    head, *body = lines_of(text[: text.index(r"\end{table}")])
    assert head.count("&") == 2 and [line.split(" ")[0] for line in body] == ["derpp", "er", "joint", "mas"]
    mas = next(line for line in body if line.startswith("mas"))
    assert mas.startswith("mas & -- & $") and r"\pm" not in mas


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("a_b", r"a\_b"),
        ("50% & $5 #1", r"50\% \& \$5 \#1"),
        ("{x}~^\\", r"\{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}"),
    ],
)
def test_names_in_latex(name, written):
    assert export.escape_latex(name) == written


def test_best(tmp_path):
    group = next(iter(pools(collect([grid(tmp_path)])).values()))
    for measure in MEASURES:
        means = {pool.label: pool.spread(measure.name).mean for pool in group}
        expected = (max if measure.more_is_better else min)(means, key=means.get)
        assert export.best_label(group, measure) == expected
        rest = [label for label in means if label != expected]
        assert export.best_label(group, measure, apart=[expected]) in rest
        assert export.best_label(group, measure, apart=rest) is None


def test_leads_that_are_shared_are_nobodys(tmp_path):
    same = {"accuracy": [[0.5]], "initial": [0.1], "losses": [], "seconds": [1.0]}
    run(tmp_path / "a", "er", T=1, **same)
    run(tmp_path / "b", "si", T=1, **same)
    (group,) = pools(collect([tmp_path])).values()
    assert export.best_label(group, MEASURES[0]) is None
    assert math.isnan(group[0].spread("forgetting").mean) and export.best_label(group, MEASURES[2]) is None


def test_buttons_carry_their_file():
    link = export.button("Save", 'a"b.csv', 'x,y\n1,"2 & ü"\n', "text/csv")
    assert 'download="a&quot;b.csv"' in link
    assert unquote(re.search(r'href="data:text/csv;charset=utf-8,([^"]*)"', link)[1]) == 'x,y\n1,"2 & ü"\n'
