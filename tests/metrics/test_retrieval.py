"""Hand-worked rankings, a brute-force float64 reference, and what must hold for any embeddings."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.metrics import retrieval as m
from tests.check import raises_sentence


def ranked(relevance):
    """One query whose items, in order of similarity, have this relevance: embeddings and a sparse relation."""
    items = np.stack([np.cos(np.arange(len(relevance)) / 10), np.sin(np.arange(len(relevance)) / 10)], 1)
    return np.array([[1.0, 0.0]]), items, scipy.sparse.csr_array(np.array([relevance]))


# rel 0,1,1,0,1 with three relevant items: (1/2 + 2/3 + 3/5) = 1.766667, and 1.166667 up to rank 3.
AP_TABLE = [
    (5, "possible", 1.7666667 / 3),
    (5, "found", 1.7666667 / 3),
    (5, "relevant", 1.7666667 / 3),
    (3, "possible", 1.1666667 / 3),
    (3, "found", 1.1666667 / 2),
    (3, "relevant", 1.1666667 / 3),
    (2, "possible", 0.5 / 2),
    (2, "found", 0.5),
    (2, "relevant", 0.5 / 3),
    (1, "possible", 0.0),
    (1, "found", 0.0),
    (9, "possible", 1.7666667 / 3),
]


@pytest.mark.parametrize(("k", "denominator", "expected"), AP_TABLE)
def test_average_precision_by_hand(k, denominator, expected):
    q, x, relation = ranked([0, 1, 1, 0, 1])
    assert m.mean_average_precision_at_k(q, x, relation, k=k, denominator=denominator) == pytest.approx(expected)


def test_average_precision_cut_at_the_number_of_relevant_items():
    """MAP@R: the cut is 3 although k is 5; of the found ones: the table value of P9D at k = 3."""
    q, x, relation = ranked([0, 1, 1, 0, 1])
    assert m.mean_average_precision_at_k(q, x, relation, k=5, cut_at_relevant=True) == pytest.approx(0.3888889)
    found = m.mean_average_precision_at_k(q, x, relation, k=5, cut_at_relevant=True, denominator="found")
    assert found == pytest.approx(0.5833333)


@pytest.mark.parametrize("k", [3, 5])
def test_p9d_by_hand(k):
    """Three items answer, so that the cut is 3 at most: (1/2 + 2/3) / 2."""
    q, x, relation = ranked([0, 1, 1, 0, 1])
    assert m.p9d_mean_average_precision_at_k(q, x, relation, k=k, exclude_self=False) == pytest.approx(0.5833333)


def test_p9d_leaves_the_query_out():
    x = np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0], [0.1, 0.99]])
    assert m.p9d_mean_average_precision_at_k(x, x, np.array([0, 0, 1, 1]), k=3) == 1
    assert m.p9d_mean_average_precision_at_k(x, x, np.array([0, 1, 0, 1]), k=3) == 0


def test_kaggle_examples():
    """(1/1 + 2/3) / 3 with a third relevant item never recommended; / 2 without it."""
    q, x, relation = ranked([1, 0, 1] + 8 * [0] + [1])
    assert m.mean_average_precision_at_k(q, x, relation, k=10) == pytest.approx((1 + 2 / 3) / 3)
    q, x, relation = ranked([1, 0, 1] + 9 * [0])
    assert m.mean_average_precision_at_k(q, x, relation, k=10) == pytest.approx((1 + 2 / 3) / 2)


def test_recall_by_hand():
    """Three images with two captions each: the best caption counts, a text has one image."""
    images = np.eye(3)
    texts = np.array([[9, 1, 2], [9, 2, 1], [1, 0, 2], [2, 9, 1], [5, 3, 4], [4, 3, 5]], dtype=float)
    labels = (np.arange(3), np.array([0, 0, 1, 1, 2, 2]))
    scores = m.cross_modal_recall(images, texts, labels, k=(1, 2))
    # Image 0: captions 0 and 1 lead. Image 1: caption 3 leads. Image 2: .894 for caption 2, then .707 for caption 5.
    assert scores["image_to_text_r1"] == pytest.approx(2 / 3) and scores["image_to_text_r2"] == 1
    # Best images of the texts: 0, 0, 2 (wrong), 1, 0 (wrong), 2; the second best of caption 2 is image 0, of 4 it is 2.
    assert scores["text_to_image_r1"] == pytest.approx(4 / 6) and scores["text_to_image_r2"] == pytest.approx(5 / 6)
    assert scores["r_mean"] == pytest.approx((2 / 3 + 1 + 4 / 6 + 5 / 6) / 4)


def test_ties_go_to_the_smaller_index():
    """A collapsed model is not rewarded: all items tie, only query 0 finds its own."""
    flat = torch.ones(8, 4)
    assert m.recall_at_k(flat, flat, k=(1, 3)) == {1: 1 / 8, 3: 3 / 8}


def test_a_query_without_an_answer_leaves_the_mean():
    q, x = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)
    assert m.recall_at_k(q, x, (np.array([0, 1, 7]), np.array([0, 5, 6])), k=1) == {1: 1.0}
    with raises_sentence(InputError, "relevant", "labels"):
        m.recall_at_k(q, x, (np.arange(3), np.arange(3) + 9), k=1)


def brute_force(q, x, relation, cuts, k, denominator, cut, exclude_self):
    """Everything from a full float64 similarity matrix, one query at a time."""
    q = q / np.linalg.norm(q, axis=1, keepdims=True)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    recalls, precisions = [], []
    for i, scores in enumerate(q @ x.T):
        order = [j for j in np.argsort(-scores, kind="stable") if not (exclude_self and i == j)]
        rel = relation[i, order]
        R = int(rel.sum())
        if R == 0:
            continue
        recalls.append([bool(rel[:c].any()) for c in cuts])
        rel = rel[: min(k, R) if cut else k]
        total = sum(rel[: r + 1].sum() / (r + 1) for r in range(len(rel)) if rel[r])
        precisions.append(total / {"possible": min(k, R), "found": max(rel.sum(), 1), "relevant": R}[denominator])
    return np.mean(recalls, axis=0), np.mean(precisions)


@pytest.mark.parametrize("kind", ["labels", "matrix"])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("denominator", m.DENOMINATORS)
@pytest.mark.parametrize(("N", "M"), [(1, 17), (65, 31), (97, 97), (33, 128)])
def test_agrees_with_brute_force_and_does_not_depend_on_blocks(N, M, denominator, exclude_self, kind, monkeypatch):
    if exclude_self:
        N = M = max(N, 16)  # a lone query has no other item to find
    rng = np.random.default_rng(N + M)
    q, x = rng.normal(size=(N, 8)).astype(np.float32), rng.normal(size=(M, 8)).astype(np.float32)
    labels = rng.integers(0, 9, N), rng.integers(0, 9, M)
    relation = labels[0][:, None] == labels[1] if kind == "labels" else rng.random((N, M)) < 0.1
    relation[0, -2:] = kind == "matrix" or relation[0, -2:]
    given_as = labels if kind == "labels" else scipy.sparse.coo_array(relation)
    options = {"exclude_self": exclude_self}
    recall, precision = brute_force(
        q.astype(float), x.astype(float), relation, (1, 5, 10), 7, denominator, False, **options
    )
    for values in (m._BLOCK_VALUES, 20):
        monkeypatch.setattr(m, "_BLOCK_VALUES", values)
        ours = m.recall_at_k(q, x, given_as, k=(10, 1, 5), **options)
        assert list(ours) == [1, 5, 10] and list(ours.values()) == pytest.approx(list(recall), abs=1e-12)
        found = m.mean_average_precision_at_k(q, x, given_as, k=7, denominator=denominator, **options)
        assert found == pytest.approx(precision, abs=1e-12)


@given(st.data())
def test_any_relation_and_any_cut(data):
    """Small embeddings of whole numbers, so that ties are common; ranking by inner product."""
    N, M = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 7))
    numbers = st.integers(-2, 2)
    q, x = (
        np.array(data.draw(st.lists(st.lists(numbers, min_size=2, max_size=2), min_size=n, max_size=n)), dtype=float)
        for n in (N, M)
    )
    relation = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=M, max_size=M), min_size=N, max_size=N)))
    k = data.draw(st.integers(1, 9))
    sparse = scipy.sparse.csr_array(relation)
    if not relation.any():
        with raises_sentence(InputError, "relevant"):
            m.recall_at_k(q, x, sparse, k=k, metric="ip")
        return
    order = np.argsort(-(q @ x.T), axis=1, kind="stable")
    rel = np.take_along_axis(relation, order, 1)[relation.any(1), :k]
    assert m.recall_at_k(q, x, sparse, k=k, metric="ip")[k] == pytest.approx(rel.any(1).mean())
    values = {
        name: m.mean_average_precision_at_k(q, x, sparse, k=k, denominator=name, metric="ip") for name in m.DENOMINATORS
    }
    assert 0 <= values["relevant"] <= values["possible"] <= values["found"] <= 1 + 1e-12
    assert (values["found"] == 0) == (not rel.any())


def test_a_perfect_and_a_reversed_ranking():
    x = torch.nn.functional.normalize(torch.randn(40, 16), dim=1)
    labels = torch.arange(40) // 4
    clean = torch.nn.functional.one_hot(labels).float()
    assert m.mean_average_precision_at_k(clean, clean, labels, k=4) == 1.0
    assert m.mean_average_precision_at_k(clean, clean, labels, k=2, denominator="relevant") == pytest.approx(0.5)
    assert m.recall_at_k(x, -x, k=(39, 40)) == {39: 0.0, 40: 1.0}


def test_numpy_torch_and_precisions_agree():
    q, x = torch.randn(33, 12), torch.randn(33, 12)
    expected = m.cross_modal_recall(q, x)
    assert m.cross_modal_recall(q.numpy(), x.numpy()) == expected
    assert m.cross_modal_recall(q.double(), x.double()) == expected
    assert m.cross_modal_recall(q.requires_grad_(), x.T.contiguous().T) == expected
    assert m.cross_modal_recall(q.bfloat16(), x.bfloat16()) == m.cross_modal_recall(
        q.bfloat16().float(), x.bfloat16().float()
    )


def test_both_directions_turn_the_relation_round():
    q, x = torch.randn(5, 6), torch.randn(7, 6)
    relation = np.random.default_rng(3).random((5, 7)) < 0.3
    scores = m.cross_modal_recall(q, x, scipy.sparse.csr_array(relation), k=2, names=("a", "b"))
    assert list(scores) == ["a_to_b_r2", "b_to_a_r2", "r_mean"]
    assert scores["b_to_a_r2"] == m.recall_at_k(x, q, scipy.sparse.csr_array(relation.T), k=2)[2]


@pytest.mark.gpu
def test_cuda_embeddings_give_the_figures_of_the_cpu():
    q, x = torch.randn(97, 16), torch.randn(97, 16)
    labels = torch.arange(97) // 4
    assert m.cross_modal_recall(q.cuda(), x.cuda()) == m.cross_modal_recall(q, x)
    options = {"k": 7, "exclude_self": True}
    on_gpu = m.mean_average_precision_at_k(q.cuda(), q.cuda(), labels.cuda(), **options)
    assert on_gpu == m.mean_average_precision_at_k(q, q, labels, **options)


BAD = [
    ({"k": 0}, ("k", "at least 1")),
    ({"k": ()}, ("k", "cut-off")),
    ({"k": 1.5}, ("k", "1.5")),
    ({"queries": np.ones((0, 3))}, ("queries", "[0, 3]")),
    ({"queries": [[1.0, 2.0]]}, ("queries", "list")),
    ({"database": np.ones((4, 2))}, ("features",)),
    ({"database": np.full((4, 3), np.nan)}, ("database", "finite")),
    ({"queries": np.array([[1, 2, 3], [1, 2, np.inf]])}, ("queries", "row 1")),
    ({"relevant": None}, ("2 and 4", "labels")),
    ({"relevant": (np.zeros(3, int), np.zeros(4, int))}, ("queries", "[2]", "[3]")),
    ({"relevant": (np.zeros(2, int), np.zeros(4))}, ("items", "float64")),
    ({"relevant": scipy.sparse.csr_array((4, 2))}, ("[2, 4]", "[4, 2]")),
    ({"exclude_self": True}, ("exclude_self", "2 and 4")),
    ({"metric": "cosin"}, ("cosin", "cosine")),
]


@pytest.mark.parametrize(("change", "words"), BAD)
def test_errors_are_sentences(change, words):
    arguments = {
        "queries": np.ones((2, 3)),
        "database": np.ones((4, 3)),
        "relevant": (np.zeros(2, int), np.zeros(4, int)),
        "k": 1,
    }
    with raises_sentence(InputError, *words):
        m.recall_at_k(**{**arguments, **change})


def test_other_errors():
    x = torch.eye(3)
    with raises_sentence(InputError, "exclude_self", "labels"):
        m.recall_at_k(x, x, exclude_self=True)
    with raises_sentence(UnknownNameError, "posible", "possible"):
        m.mean_average_precision_at_k(x, x, k=1, denominator="posible")


def test_memory_does_not_grow_with_the_matrix():
    """20,000 × 20,000 similarities would be 1.6 GB; the peak of NumPy's and Python's own memory stays far below."""
    import tracemalloc

    x = np.random.default_rng(0).normal(size=(20_000, 8)).astype(np.float32)
    tracemalloc.start()
    scores = m.recall_at_k(x, x, k=(1, 10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores == {1: 1.0, 10: 1.0} and peak < 64 * 2**20
