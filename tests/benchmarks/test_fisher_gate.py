"""The Fisher family: peers of plain torch pass the gate, and what is not the Fisher does not."""

import importlib.util
import sys

import numpy as np
import pytest

from benchmarks import families
from benchmarks.families.fisher.peers import backpack_squares, opacus_samples, ours, torch_loops
from benchmarks.families.fisher.truth import BATCH, FISHER, GRADIENT

FAMILY = families.load("fisher")
(CASE,) = FAMILY.cases.TINY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fisher")
    FAMILY.data.make(CASE, path)
    return path


@pytest.fixture
def truth(folder):
    with np.load(folder / FAMILY.data.file_names(CASE)["truth"]) as saved:
        return dict(saved)


def answer(peer, folder, **options):
    prepared = peer.prepare(CASE, FAMILY.data.inputs(CASE, FAMILY.data.load(CASE, folder)), options)
    return prepared.arrays(prepared.run())


def check(found, truth, tolerance=FAMILY.gate.FLOAT32_TOLERANCE):
    return FAMILY.gate.check(CASE, found, truth, {}, tolerance)


@pytest.mark.parametrize(
    ("peer", "options", "kind"),
    [
        (ours, {}, FISHER),
        (torch_loops, {"how": "single"}, FISHER),
        (torch_loops, {"how": "vmap"}, FISHER),
        (torch_loops, {"how": "batch"}, BATCH),
        (torch_loops, {"how": "step"}, GRADIENT),
    ],
)
def test_a_right_answer_passes(peer, options, kind, folder, truth):
    found = answer(peer, folder, **options)
    assert list(found) == [kind]
    assert check(found, truth) is None


def test_the_squared_batch_mean_is_not_the_fisher(folder, truth):
    found = answer(torch_loops, folder, how="batch")
    assert "times its tolerance" in check({FISHER: found[BATCH]}, truth)


def test_one_wrong_element_missing_and_mistyped_answers_fail(truth):
    wrong = truth[FISHER].copy()
    wrong[2, 5] = wrong[2].max() * 1.5
    assert "fisher" in check({FISHER: wrong}, truth)
    assert check({FISHER: truth[FISHER] * np.nan}, truth)
    assert "expected elements" in check({FISHER: truth[FISHER][:2]}, truth)
    assert "expected one of" in check({}, truth)


def test_a_part_of_a_case_is_a_case(folder):
    case, arrays = FAMILY.data.part(CASE, FAMILY.data.load(CASE, folder))
    assert case.N == case.B == len(arrays["x"]) == len(arrays["y"]) == 8


@pytest.mark.parametrize("peer", [opacus_samples, backpack_squares])
def test_libraries_kept_aside_agree_and_do_not_shadow_our_benchmarks(peer, folder, truth, monkeypatch):
    monkeypatch.setattr("sys.path", [*sys.path])
    reason = peer.unavailable()
    if reason:
        assert "python -m benchmarks.aside" in reason
        pytest.skip(reason)
    assert check(answer(peer, folder), truth) is None
    assert importlib.util.find_spec("benchmarks.families.fisher.gate").origin == FAMILY.gate.__file__
