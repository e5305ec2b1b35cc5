"""The page of a clustering in a real browser: both themes, wide and narrow, nothing cut off, run or fetched."""

import json
from pathlib import Path

import numpy as np
import pytest

from pyfast_mmcl._errors import CheckpointError
from pyfast_mmcl.clustering import DEC, KMeans
from pyfast_mmcl.report import colours, pages, runs
from pyfast_mmcl.report.cluster_run import Clustered, write
from tests.check import raises_sentence
from tests.clustering.sets import digits
from tests.report.browser import colours_of, program, read_off
from tests.report.test_browser import PROBE

NAMES = np.array(
    ["zero", "<script>document.title='run'</script>", 'two" onload="x', "three & more", *map(str, range(4, 10))]
)
MORE = """JSON.stringify({title: document.title,
  images: [...document.querySelectorAll('img.tiles')].map(e => [e.complete, e.naturalWidth, e.alt.length > 5]),
  rows: document.querySelectorAll('.heat tbody tr').length,
  dots: [...document.querySelectorAll('svg.chart g')].map(e => e.querySelectorAll('circle, path').length)
    .reduce((a, b) => a + b, 0)})"""


def made(folder: Path) -> Path:
    """A run of DEC on digits, with the classes under names that are to be escaped."""
    X, y = digits()
    X, y = X[:300], y[:300]
    how = {"widths": (16,), "code": 4, "pretrain_epochs": 3, "epochs": 2, "n_init": 1, "random_state": 0}
    model = DEC(10, **how).fit(X)
    folder.mkdir()
    found = Clustered(model, X, model.labels_, model.predict_proba(X), 1.0)
    write(folder, found, truth=NAMES[y], tiles=X.reshape(-1, 1, 8, 8).__getitem__)
    options = {"data": "<b>rows</b>.npy", "method": "dec", "k": 10, "seed": 0, "projection": "pca", "set": how}
    runs.write_record(folder, "cluster", options)
    return pages.build(folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return made(tmp_path_factory.mktemp("cluster") / "run")


def test_names_are_escaped_and_nothing_is_loaded(page):
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "<b>rows" not in text and 'two" onload' not in text
    assert "&lt;script&gt;" in text and "three &amp; more" in text
    assert text.count("data:image/png;base64,") == text.count("<img ") > 1


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_drawn_in_its_theme(page, tmp_path, dark):
    program()
    seen = colours_of(page, tmp_path / "page.png", 1100, 3400, dark=dark)
    paper, other = ("#14171b", "#fbfbf9") if dark else ("#fbfbf9", "#14171b")
    assert seen[paper] > 0.3 and seen.get(other, 0) < 0.01
    ramp = colours.ramp(colours.DARK if dark else colours.LIGHT)
    assert sum(seen.get(cell, 0) > 1e-5 for cell, _ in ramp) >= 4
    assert all(seen.get(pair[dark], 0) > 1e-5 for pair in colours.LINES[:2])


@pytest.mark.parametrize("width", [1200, 500])
def test_nothing_is_cut_off_or_fetched(page, width):
    program()
    found = json.loads(read_off(page, PROBE, width).replace("&amp;", "&"))
    assert found["window"] == width and found["wide"] <= width
    assert found["out"] == [] and found["cut"] == [] and found["fetched"] == []
    assert found["charts"] == 4  # by cluster, by class, and the losses of two phases
    more = json.loads(read_off(page, MORE, width))
    assert more["title"] == "Clustering: dec, K = 10" and more["rows"] == 10 and more["dots"] >= 600
    assert more["images"] and all(done and pixels >= 8 and named for done, pixels, named in more["images"])


class Named(KMeans):
    """Clusters with names, as methods have them that know texts."""

    def cluster_names(self):
        return [["cat", "<i>lion</i>"], [], ["house"]][: self.n_clusters_]


def test_clusters_are_called_by_their_names(tmp_path):
    X = digits()[0][:60]
    model = Named(3, random_state=0).fit(X)
    write(tmp_path, Clustered(model, X, model.labels_, None, 1.0), tiles=X.reshape(-1, 1, 8, 8).__getitem__)
    runs.write_record(tmp_path, "cluster", {"data": "x", "method": "tac", "k": 3})
    text = pages.build(tmp_path).read_text()
    assert text.count("0: cat, &lt;i&gt;lion&lt;/i&gt;") >= 2 and "2: house" in text and "1: " not in text


def test_damaged_results_are_named(page, tmp_path):
    with raises_sentence(CheckpointError, "summary.json", "missing"):
        runs.write_record(tmp_path, "cluster", {"method": "dec", "data": "x", "k": 1})
        runs.write_json(tmp_path / "summary.json", {"rows": 1})
        pages.build(tmp_path)
    for name in ("projection.npy", "montage.npy"):
        path = page.parent / name
        whole = path.read_bytes()
        path.write_bytes(whole[:50])
        with raises_sentence(CheckpointError, name):
            pages.build(page.parent)
        path.write_bytes(whole)
