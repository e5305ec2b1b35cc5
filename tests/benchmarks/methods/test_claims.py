"""Claims: verdicts follow the paired interval, and every claim names lines that are measured."""

import pytest

from benchmarks.methods import claims, clusters_shows, results
from benchmarks.methods.claims import Claim
from benchmarks.methods.results import Experiment, Row
from benchmarks.methods.shows import SHOWS
from benchmarks.methods.shows_claims import CLAIMS

ABOUT = Experiment("small", "Small", "Text.", {}, ("digits", "letters"), ("ours", "theirs", "noisy"), ())
VALUES = {"ours": (0.80, 0.82, 0.84), "theirs": (0.70, 0.73, 0.74), "noisy": (0.60, 0.95, 0.79)}


@pytest.fixture
def root(tmp_path):
    rows = [
        Row("digits", method, seed, "last_accuracy", value)
        for method, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
    results.record(ABOUT, [*rows, Row("letters", "ours", 0, "last_accuracy", 0.1)], threads=1, root=tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "than", "options", "verdict"),
    [
        ("ours", "theirs", {}, claims.HOLDS),
        ("theirs", "ours", {}, claims.FAILS),
        ("theirs", "ours", {"higher": False}, claims.HOLDS),
        ("ours", "noisy", {}, claims.OPEN),
        ("ours", 0.7, {}, claims.HOLDS),
        ("ours", 0.7, {"higher": False}, claims.FAILS),
        ("ours", "theirs", {"equal": 0.2}, claims.HOLDS),
        ("ours", "theirs", {"equal": 0.01}, claims.FAILS),
        ("ours", "noisy", {"equal": 0.01}, claims.OPEN),
    ],
)
def test_the_interval_decides(root, line, than, options, verdict):
    page = claims.section([Claim("It is so (Doe 2020)", "small", line, than, "Because.", **options)], root)
    said, stream, figures, found, why = [cell.strip() for cell in page.splitlines()[-1].strip("|").split("|")]
    assert (said, stream, found, why) == ("It is so (Doe 2020)", "digits", verdict, "Because.")
    mean = 100 * sum(VALUES[line]) / 3
    assert f"{line} {mean:.1f} ± " in figures and "3 seeds" in figures


def test_what_is_not_measured_is_not_claimed(root):
    missing = [
        Claim("a", "elsewhere", "ours", "theirs", ""),
        Claim("b", "small", "ours", "absent", ""),
        Claim("c", "small", "theirs", "ours", "", stream="letters"),
    ]
    assert claims.section(missing, root) == ""
    alone = claims.section([Claim("d", "small", "ours", 0.0, "Why.", stream="letters")], root)
    assert f"| {claims.ONE_SEED} | Why. |" in alone


def test_every_claim_is_about_lines_that_there_are():
    folders = {show.folder: (show.methods, (show.title,)) for show in SHOWS.values()}
    folders |= {show.folder: (show.lines, (show.title,)) for show in clusters_shows.SHOWS}
    for folder in results.folders():
        about = results.read(folder).experiment
        folders.setdefault(about.name, (about.methods, about.streams))
    assert CLAIMS
    for claim in CLAIMS:
        methods, streams = folders[claim.folder]
        assert claim.line in methods and (claim.than in methods or isinstance(claim.than, float)), claim
        assert claim.stream in streams or (claim.stream == "" and len(streams) == 1), claim
        assert claim.said.endswith(")") and claim.why.endswith("."), "a reference and a sentence"
