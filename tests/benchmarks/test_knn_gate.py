"""The gate lets right answers through and nothing else; its float64 truth is the definition, written out."""

import importlib

import numpy as np
import pytest

from benchmarks.arrays import round_bfloat16
from benchmarks.families.knn import contestants, data, gate
from benchmarks.families.knn.cases import Case, knn

METRICS = ("l2", "ip", "cosine")
CPU_PEERS = ("ours", "faiss_flat", "torch_mm", "sklearn_brute", "usearch_exact")


def peer_module(name):
    return importlib.import_module(f"{contestants.__package__}.peers.{name}")


@pytest.fixture
def ready(tmp_path):
    """Inputs, truth and a right answer of a case."""

    def make(case):
        data.make(case, tmp_path)
        with np.load(tmp_path / data.file_names(case)["truth"]) as truth:
            return data.load(case, tmp_path), dict(truth)

    return make


def right_answer(case, arrays, truth):
    ids = truth["ids"][:, : case.k or 1].copy()
    values = data.pair_values(arrays["rows"][truth["sample"]], arrays["others"][ids], case.metric)
    return {"ids": ids, "distances": values if case.metric == "l2" else -values}


@pytest.mark.parametrize("metric", METRICS)
def test_search_truth_is_the_float64_ranking(ready, metric):
    case = knn(20, 300, 17, 6, metric=metric)
    arrays, truth = ready(case)
    queries, rows = (np.asarray(arrays[side], np.float64) for side in ("rows", "others"))
    if metric == "cosine":
        queries, rows = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (queries, rows))
    full = np.square(queries[:, None] - rows).sum(2) if metric == "l2" else -queries @ rows.T
    order = np.argsort(full, axis=1, kind="stable")[truth["sample"], :7]
    assert np.array_equal(truth["ids"], order)
    assert np.allclose(truth["values"], np.take_along_axis(full[truth["sample"]], order, 1), rtol=1e-12, atol=1e-12)


def test_lloyd_truth_is_the_definition(ready):
    arrays, truth = ready(Case("lloyd_step", N=200, D=5, K=7))
    rows, centers = (np.asarray(arrays[side], np.float64) for side in ("rows", "others"))
    distances = np.square(rows[:, None] - centers).sum(2)
    labels = distances.argmin(1)
    assert np.array_equal(truth["labels"], labels)
    assert np.allclose(truth["sums"], np.stack([rows[labels == j].sum(0) for j in range(7)]))
    assert np.isclose(truth["inertia"], distances.min(1).sum())
    assert (truth["counts"] > 0).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", (1, 6, 300))
def test_a_right_answer_passes(ready, metric, k):
    case = knn(20, 300, 17, k, metric=metric)
    arrays, truth = ready(case)
    assert gate.check(case, right_answer(case, arrays, truth), truth, arrays, 1e-6) is None


def _miss(answer, others):
    answer["ids"][0, 0] = answer["ids"][0, -1] + 1 if answer["ids"][0, -1] + 1 < others else 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    (
        (lambda answer: answer["ids"].__setitem__((3, 1), answer["ids"][3, 0]), "twice"),
        (lambda answer: answer["ids"].__setitem__((3, 1), -1), "outside"),
        (
            lambda answer: answer["distances"].__setitem__((3, 1), answer["distances"][3, 1] * 1.001),
            "away from float64",
        ),
        (lambda answer: answer["distances"].__setitem__((3, 1), np.nan), "away from float64"),
        (lambda answer: answer["ids"].__setitem__((3, [0, 1]), answer["ids"][3, [1, 0]]), "ids differ"),
        (lambda answer: answer.update(ids=answer["ids"][:, :2]), "shape"),
    ),
)
def test_each_kind_of_wrong_answer_is_named(ready, spoil, reason):
    case = knn(20, 300, 17, 6)
    arrays, truth = ready(case)
    answer = right_answer(case, arrays, truth)
    spoil(answer)
    assert reason in gate.check(case, answer, truth, arrays, 1e-6)


def test_a_missed_neighbour_is_named_even_with_the_right_distances(ready):
    case = knn(20, 300, 17, 6)
    arrays, truth = ready(case)
    answer = right_answer(case, arrays, truth)
    far = next(row for row in range(300) if row not in truth["ids"][0])
    answer["ids"][0, 5] = far
    assert gate.check(case, answer, truth, arrays, 1e-6) == "a nearer row was missed"


def test_equal_rows_may_be_swapped(ready):
    case = knn(20, 300, 17, 2)
    arrays, _ = ready(case)
    arrays = {"rows": arrays["rows"], "others": np.repeat(arrays["others"][:150], 2, axis=0)}
    truth = data.search_truth(case, **arrays)
    answer = right_answer(case, arrays, truth)
    answer["ids"] = answer["ids"][:, ::-1]
    assert gate.check(case, answer, truth, arrays, 1e-6) is None


def test_wrong_steps_are_named(ready):
    case = Case("lloyd_step", N=200, D=5, K=7)
    arrays, truth = ready(case)
    right = {name: truth[name].copy() for name in ("labels", "counts", "sums")} | {"inertia": float(truth["inertia"])}
    assert gate.check(case, right, truth, arrays, 1e-6) is None
    labels = right["labels"].copy()
    labels[3] = (labels[3] + 1) % 7
    assert "labels differ" in gate.check(case, right | {"labels": labels}, truth, arrays, 1e-6)
    assert "counts" in gate.check(case, right | {"counts": right["counts"] + 1}, truth, arrays, 1e-6)
    assert "inertia" in gate.check(case, right | {"inertia": right["inertia"] * 1.01}, truth, arrays, 1e-6)
    assert "centres differ" in gate.check(case, right | {"sums": right["sums"] * 1.01}, truth, arrays, 1e-6)
    centers = truth["sums"] / truth["counts"][:, None]
    assert gate.check(case, {"centers": centers}, truth, arrays, 1e-6) is None
    assert "centres differ" in gate.check(case, {"centers": centers[::-1]}, truth, arrays, 1e-6)


def test_bfloat16_inputs_are_rounded_to_nearest():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal(10_000, dtype=np.float32)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(round_bfloat16(values), expected)


SHAPES = (
    *(knn(9, 200, 16, 4, metric=metric) for metric in METRICS),
    Case("nearest", N=120, D=8, K=9),
    Case("lloyd_step", N=120, D=8, K=9),
)
CANNOT = {("sklearn_brute", "knn", "ip"), ("usearch_exact", "nearest", "l2"), ("usearch_exact", "lloyd_step", "l2")}


@pytest.mark.parametrize(
    ("case", "peer_name"),
    [(case, name) for case in SHAPES for name in CPU_PEERS if (name, case.op, case.metric) not in CANNOT],
    ids=lambda value: getattr(value, "id", value),
)
def test_every_contestant_gives_right_answers(ready, case, peer_name):
    peer = peer_module(peer_name)
    if peer.unavailable():
        pytest.skip(peer.unavailable())
    arrays, truth = ready(case)
    prepared = peer.prepare(case, data.Inputs(case, arrays), {})
    answer = gate.keep(case, prepared.arrays(prepared.run()), truth)
    assert gate.check(case, answer, truth, arrays, peer.TOLERANCE) is None
    if prepared.seconds:
        assert prepared.seconds() >= 0


@pytest.mark.parametrize("dtype", ("float32", "bfloat16"))
@pytest.mark.parametrize(("peer_name", "options"), (("ours", {}), ("ours", {"packed": True}), ("torch_mm", {})))
def test_torch_tensors_on_a_device_give_right_answers(ready, peer_name, options, dtype):
    """The way of the GPU cases, on the device that is always there."""
    case = knn(9, 200, 16, 4, dtype=dtype)
    arrays, truth = ready(case)
    peer = peer_module(peer_name)
    prepared = peer.prepare(case, data.Inputs(case, arrays), options | {"device": "cpu"})
    answer = gate.keep(case, prepared.arrays(prepared.run()), truth)
    assert gate.check(case, answer, truth, arrays, peer.TOLERANCE) is None


def test_a_packed_bank_answers_like_a_one_shot_call(ready):
    case = knn(9, 200, 16, 4)
    arrays, truth = ready(case)
    peer = peer_module("ours")
    prepared = peer.prepare(case, data.Inputs(case, arrays), {"packed": True})
    answer = gate.keep(case, prepared.arrays(prepared.run()), truth)
    assert gate.check(case, answer, truth, arrays, peer.TOLERANCE) is None


def test_moving_inputs_change_their_shape_each_call():
    arrays = {"rows": np.zeros((9, 2)), "others": np.zeros((30, 2))}
    moving = data.Inputs(knn(9, 30, 2, 1, moving=True), arrays)
    shapes = [tuple(len(part) for part in moving.next()) for _ in range(3)]
    assert shapes == [(9, 30), (8, 29), (7, 28)]
    still = data.Inputs(knn(9, 30, 2, 1), arrays)
    assert [len(still.next()[0]) for _ in range(3)] == [9, 9, 9]
