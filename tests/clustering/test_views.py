"""Lists and dicts of views: joined with equal weight, the same for new rows."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.pseudo_label.dec import DEC
from pyfast_mmcl.clustering.views import is_views, join_views
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import assert_same_partition, raises_sentence
from tests.clustering.sets import views

RNG = np.random.default_rng(0)
Y = np.arange(60) % 3
A = (10 * np.eye(3, 4)[Y] + RNG.normal(size=(60, 4))).astype(np.float32)
B = 1e4 * (10 * np.eye(3, 9)[(Y + 1) % 3] + RNG.normal(size=(60, 9))) + 1e6
B = B.astype(np.float32)


def test_joined_views_are_their_formula():
    joined, _ = join_views({"a": A, "b": B})
    parts = []
    for view in (A.astype(np.float64), B.astype(np.float64)):
        centered = view - view.mean(0)
        parts.append(centered / np.sqrt((centered**2).mean(0).sum()))
    np.testing.assert_allclose(joined, np.concatenate(parts, 1), rtol=1e-12, atol=1e-14)
    assert (joined[:, :4] ** 2).mean(0).sum() == pytest.approx((joined[:, 4:] ** 2).mean(0).sum())


def test_a_list_of_rows_is_a_table_and_a_list_of_tables_are_views():
    assert is_views([A, B]) and is_views((A,)) and is_views({"a": A}) and is_views([csr_array(A), B])
    assert (
        not is_views(A) and not is_views([[1.0, 2.0], [3.0, 4.0]]) and not is_views([]) and not is_views([A[0], A[1]])
    )


@pytest.mark.parametrize("X", [[A, B], {"a": A, "b": B}, [csr_array(A), B], [torch.from_numpy(A), torch.from_numpy(B)]])
@pytest.mark.parametrize("kind", ["kmeans", "dec"])
def test_estimators_take_views(kind, X):
    small = {"widths": (16,), "code": 3, "pretrain_epochs": 10, "epochs": 3, "batch_size": 16, "n_init": 2}
    model = KMeans(3, random_state=0) if kind == "kmeans" else DEC(3, **small, random_state=0)
    model.fit(X)
    assert_same_partition(np.asarray(model.labels_), Y)
    assert isinstance(model.labels_, torch.Tensor) == isinstance(
        X[next(iter(X))] if isinstance(X, dict) else X[1], torch.Tensor
    )
    some = {n: v[:7] for n, v in X.items()} if isinstance(X, dict) else [v[:7] for v in X]
    np.testing.assert_array_equal(np.asarray(model.predict(some)), np.asarray(model.labels_)[:7])


def test_views_that_do_not_fit_are_named():
    model = KMeans(3, random_state=0).fit({"a": A, "b": B})
    for bad, words in (({"a": A}, "'a', 'b'"), (A, "single table"), ({"a": A, "b": B[:, :5]}, "9 features")):
        with raises_sentence(InputError, words):
            model.predict(bad)
    with raises_sentence(InputError, "same rows", "60"):
        KMeans(3).fit([A, B[:50]])
    with raises_sentence(InputError, "view 'b'", "row 3"):
        KMeans(3).fit({"a": A, "b": np.where(np.arange(60)[:, None] == 3, np.nan, B)})
    with raises_sentence(InputError, "got views"):
        KMeans(3, random_state=0).fit(A).predict([A])
    with raises_sentence(InputError, "no views"):
        KMeans(3).fit({})


def test_views_together_beat_the_best_one(data_dir):
    tables, y = views(data_dir, "handwritten")
    alone = max(clustering_accuracy(y, KMeans(10, n_init=2, random_state=0).fit(v).labels_) for v in tables)
    together = clustering_accuracy(y, KMeans(10, n_init=2, random_state=0).fit(tables).labels_)
    assert together > alone
