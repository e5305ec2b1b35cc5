"""The sampling family: every contestant that is installed passes the gate at small sizes; wrong choices do not."""

import importlib

import numpy as np
import pytest

from benchmarks import families
from benchmarks.contestant import entrants
from benchmarks.families.sampling import chances, goals, greedy, truth
from benchmarks.families.sampling.contestants import LOOP, OURS
from pyfast_mmcl.ops.sampling import reservoir_keys

FAMILY = families.load("sampling")
PAIRS = [(case, one) for case in FAMILY.cases.TINY for one in entrants(case, FAMILY.contestants.CPU, frozenset())]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("sampling")
    for case in FAMILY.cases.TINY:
        FAMILY.data.make(case, path)
    return path


def verdict(case, found, folder, tolerance=FAMILY.gate.FLOAT32_TOLERANCE):
    with np.load(folder / FAMILY.data.file_names(case)["truth"]) as saved:
        return FAMILY.gate.check(case, found, dict(saved), FAMILY.data.load(case, folder), tolerance)


@pytest.mark.parametrize(("case", "one"), PAIRS, ids=lambda value: getattr(value, "id", getattr(value, "name", "")))
def test_a_right_answer_passes_and_calls_can_be_repeated(case, one, folder):
    peer = importlib.import_module(one.peer)
    reason = peer.unavailable()
    if reason:
        pytest.skip(reason)
    prepared = peer.prepare(case, FAMILY.data.inputs(case, FAMILY.data.load(case, folder)), one.options)
    prepared.run()
    assert verdict(case, prepared.arrays(prepared.run()), folder, peer.TOLERANCE) is None
    if prepared.seconds:
        assert prepared.seconds() > 0


def test_keys_are_those_of_the_package():
    ids = np.concatenate([np.arange(1_000), np.array([2**40, 2**62])])
    np.testing.assert_array_equal(truth.keys(truth.SEED, ids), reservoir_keys(truth.SEED, ids))


def test_reservoirs_that_are_wrong_fail(folder):
    case = FAMILY.cases.TINY[0]
    ids = np.arange(case.N - case.M, case.N)
    late = {"ids": ids, "rows": ids.astype(np.float32), "offered": case.N, "keyed": False}
    assert "early and late" in verdict(case, late, folder)
    assert "largest keys" in verdict(case, late | {"keyed": True}, folder)
    assert "not those of their ids" in verdict(case, late | {"rows": ids + 1.0}, folder)
    assert "distinct" in verdict(case, late | {"ids": np.zeros(case.M, int)}, folder)


def test_draws_that_ignore_weights_and_wrong_importance_fail(folder):
    case = next(case for case in FAMILY.cases.TINY if case.op == "priority_update")
    arrays = FAMILY.data.load(case, folder)
    weights = FAMILY.data.priorities_after(case, arrays)
    generator = np.random.default_rng(0)
    right = generator.choice(case.N, 50_000, p=weights / weights.sum())
    importance = (weights.min() / weights) ** FAMILY.gate.BETA
    assert verdict(case, {"index": right, "weight": importance[right]}, folder) is None
    assert "importance" in verdict(case, {"index": right, "weight": 1.1 * importance[right]}, folder)
    stale = np.asarray(arrays["priority"], np.float64)
    old = generator.choice(case.N, 50_000, p=stale / stale.sum())
    assert "do not follow" in verdict(case, {"index": old, "weight": importance[old]}, folder)
    weights[right[0]] = 0
    assert "weight 0" in chances.of_weights(right, weights)
    assert "outside" in chances.of_weights(np.array([case.N]), weights)


def test_orders_that_are_not_greedy_fail():
    features = np.random.default_rng(1).standard_normal((40, 3)) + 1
    assert "pick 0" in greedy.herding(np.argsort(-np.linalg.norm(features, axis=1)), features, 1e-3)
    assert "twice" in greedy.herding(np.zeros(3, int), features, 1e-3)
    first = int(np.linalg.norm(features - features.mean(0), axis=1).argmin())
    near = np.linalg.norm(features - features[first], axis=1).argsort()[:4]
    assert "not the farthest" in greedy.k_center(near, features, 1e-3)
    assert "first pick" in greedy.k_center(near[::-1], features, 1e-3)


def test_a_draw_without_replacement_repeats_no_row(folder):
    case = next(case for case in FAMILY.cases.TINY if case.op == "gumbel_top_k")
    assert "distinct" in verdict(case, {"index": np.zeros(case.B, int), "first": np.zeros(10, int)}, folder)


def test_a_batch_of_other_rows_fails(folder):
    case = FAMILY.cases.TINY[-1]
    arrays, index = FAMILY.data.load(case, folder), np.arange(case.B)
    right = {name: np.asarray(arrays[name])[index] for name in arrays} | {"index": index}
    assert verdict(case, right, folder) is None
    assert "audio" in verdict(case, right | {"audio": right["audio"][::-1]}, folder)


def test_a_part_of_a_case_is_a_case(folder):
    for case in FAMILY.cases.TINY:
        small, arrays = FAMILY.data.part(case, FAMILY.data.load(case, folder))
        assert small.flops <= case.flops and arrays


def row(contestant, role, seconds):
    figures = {"mode": "one-shot", "median_s": seconds, "repeats": 7, "extra_mib": 1.0}
    return FAMILY.cases.reservoirs(1_000, 256)[0].to_dict() | figures | {"contestant": contestant, "role": role}


def test_goals_and_table():
    rows = [row("pyfast", OURS, 0.01), row("loop", LOOP, 2.0)]
    (loop,) = goals.evaluate(rows)
    assert loop.values == (200.0,) and loop.hits == 1
    assert "| 10 | 10 | 2000 | 200.00 | 1 |" in FAMILY.tables.op_table(rows)
