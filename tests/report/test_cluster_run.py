"""What a clustering run writes: nearest rows, confusion, montage and places against the plain way of finding them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.pseudo_label.dec import DEC
from pyfast_mmcl.report import cluster_run
from pyfast_mmcl.report.cluster_run import Clustered, confusion, largest_clusters, montage, typical_rows, write
from pyfast_mmcl.report.projection import main_plane, project
from tests.check import assert_same_bits, raises_sentence

SMALL = {"widths": (8,), "code": 3, "pretrain_epochs": 2, "epochs": 2, "batch_size": 32, "n_init": 2, "random_state": 0}


def rows(N: int = 97, D: int = 6) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


def done(model, X) -> Clustered:
    model.fit(X)
    soft = model.predict_proba(X) if hasattr(model, "predict_proba") else None
    return Clustered(model, X, model.labels_, soft, 0.5)


MODELS = {
    "euclidean": KMeans(13, random_state=0),
    "spherical": KMeans(5, spherical=True, random_state=0),
    "deep": DEC(4, **SMALL),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_typical_rows_are_those_nearest_their_centres(model, monkeypatch):
    X = rows()
    monkeypatch.setattr(cluster_run, "_BLOCK", 100)  # several blocks
    found = done(model, X)
    points = model.transform(X) if isinstance(model, DEC) else X.astype(np.float64)
    if getattr(model, "spherical", False):
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    clusters = largest_clusters(found.labels)
    for k, near in zip(clusters, typical_rows(found, clusters), strict=True):
        mine = np.flatnonzero(found.labels == k)
        away = np.linalg.norm(points[mine] - model.cluster_centers_[k], axis=1)
        expected = mine[np.argsort(away, kind="stable")][: cluster_run.TILES]
        np.testing.assert_array_equal(near[: len(expected)], expected)
        assert (near[len(expected) :] == -1).all()


def test_without_centres_the_most_certain_rows_are_typical():
    soft = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.4, 0.6]], dtype=np.float32)
    model = SimpleNamespace(n_clusters_=2)
    found = typical_rows(Clustered(model, rows(5), soft.argmax(1), soft, 0), np.array([0, 1]))
    assert found[:, :4].tolist() == [[1, 3, 0, -1], [2, 4, -1, -1]]


def test_empty_and_many_clusters():
    labels = np.array([5, 5, 3, 3, 3, 1])
    assert largest_clusters(labels).tolist() == [1, 3, 5]
    many = np.repeat(np.arange(60), np.arange(1, 61))
    assert largest_clusters(many).tolist() == list(range(20, 60))


def test_confusion_has_matched_pairs_on_its_diagonal():
    truth = np.array(list("aaabbbcc"))
    found = confusion(truth, np.array([7, 7, 2, 2, 2, 2, 9, 7]))
    assert found["left_out"] == [0, 0]
    counts = np.array(found["counts"])
    pairs = dict(zip(found["classes"], found["clusters"], strict=True))
    assert pairs == {"a": 7, "b": 2, "c": 9} and np.trace(counts) == 6 and counts.sum() == 8
    # More clusters than classes, and more of both than fit.
    wide = confusion(np.zeros(5, dtype=int), np.arange(5))
    assert wide["counts"] == [[1, 1, 1, 1, 1]] and sorted(wide["clusters"]) == list(range(5))
    numbers = np.repeat(np.arange(50), np.arange(1, 51))
    large = confusion(numbers, numbers)
    assert large["left_out"] == [10, 10] and min(large["clusters"]) == 10 and json.dumps(large)


def test_montage_stretches_floats_and_leaves_bytes():
    near = np.array([[2, 0], [1, -1]])
    grey = np.arange(3 * 4, dtype=np.float64).reshape(3, 1, 2, 2)
    sheet = montage(near, grey.__getitem__)
    assert sheet.shape == (2, 2, 3, 2, 2) and sheet.dtype == np.uint8
    assert sheet[0, 0, 2, 1, 1] == 255 and sheet[0, 1, 0, 0, 0] == 0 and not sheet[1, 1].any()
    colour = np.random.default_rng(0).integers(256, size=(3, 3, 2, 2), dtype=np.uint8)
    np.testing.assert_array_equal(montage(near, colour.__getitem__)[0, 1], colour[0])
    assert not montage(near, np.ones((3, 1, 2, 2)).__getitem__).any()


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (17, 17), (5, 1), (2, 5)])
def test_the_plane_is_that_of_the_main_components(shape):
    X = np.random.default_rng(1).normal(size=shape) * np.arange(1, shape[1] + 1) + 3
    ours = main_plane(X)
    assert ours.shape == (shape[0], 2) and ours.dtype == np.float32
    n = min(2, *shape)
    theirs = PCA(n, svd_solver="full").fit_transform(X)
    for c in range(n):
        sign = np.sign((ours[:, c] * theirs[:, c]).sum()) or 1
        np.testing.assert_allclose(ours[:, c], sign * theirs[:, c], atol=1e-4 * np.abs(X).max())
    assert_same_bits(ours, main_plane(X))
    assert not main_plane(np.ones(shape)).any()


def test_t_sne_repeats_and_needs_rows():
    X = rows(30)
    first = project(X, "tsne", 3)
    assert first.shape == (30, 2) and np.isfinite(first).all()
    assert_same_bits(first, project(X, "tsne", 3))
    with raises_sentence(InputError, "at least 4", "3"):
        project(X[:3], "tsne", 0)
    with raises_sentence(InputError, "umap", "pca"):
        project(X, "umap", 0)


def test_the_summary_of_one_cluster_and_of_equal_rows_has_no_silhouette(tmp_path):
    summary = write(tmp_path, done(KMeans(1, random_state=0), rows()))
    assert summary["silhouette"] is None and summary["balance"] == 1 and summary["silhouettes"] == [None]
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_soft_assignments_too_large_for_the_disk_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_run, "_MOST_BYTES", 100)
    write(tmp_path, done(DEC(4, **SMALL), rows()))
    assert (tmp_path / "labels.npy").exists() and not (tmp_path / "probabilities.npy").exists()
