"""IMSAT and RIM: their terms, their neighbours, and what they do for digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.augmentation.imsat import IMSAT, neighbor_distance
from pyfast_mmcl.clustering.augmentation.rim import RIM
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.samples import read_samples
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (100, 100), "epochs": 12, "batch_size": 200}


def test_radius_is_the_distance_to_the_tenth_neighbour():
    rows = X[:80].astype(np.float32)
    samples = read_samples(rows, torch.device("cpu"))
    distance = torch.cdist(torch.from_numpy(rows).double(), torch.from_numpy(rows).double()).sort(1).values[:, 10]
    torch.testing.assert_close(neighbor_distance(samples, 10).double(), distance, rtol=1e-5, atol=1e-5)
    assert len(neighbor_distance(read_samples(rows[:1], torch.device("cpu")), 10)) == 1


def test_imsat_beats_k_means_on_digits():
    imsat = [IMSAT(10, **{**SMALL, "epochs": 20}, random_state=seed).fit(X) for seed in range(4)]
    kmeans = [KMeans(10, random_state=seed).fit(X) for seed in range(4)]
    ours, theirs = ([clustering_accuracy(Y, model.labels_) for model in models] for models in (imsat, kmeans))
    assert np.mean(ours) > np.mean(theirs)  # the seeds of IMSAT lie up to 0.1 apart
    imsat = imsat[0]
    assert set(imsat.history_[0]["terms"]) == {"invariance", "balance", "certainty"}
    # Balance is a sum over the batch: it cannot be less than minus its weight times log K.
    assert imsat.history_[-1]["terms"]["balance"] >= -0.1 * 4 * np.log(10)


def test_invariance_grows_with_the_radius():
    near, far = (IMSAT(10, **{**SMALL, "epochs": 3}, radius=r, random_state=0).fit(X[:600]) for r in (0.01, 1.0))
    assert near.history_[-1]["terms"]["invariance"] < far.history_[-1]["terms"]["invariance"]


def test_rim_starts_from_k_means_and_keeps_margins():
    start = RIM(10, epochs=0, random_state=0).fit(X)
    score = clustering_accuracy(Y, start.labels_)
    assert score > 0.6
    loose, tight = (RIM(10, epochs=10, lam=lam, random_state=0).fit(X) for lam in (0.0, 1.0))
    assert float(tight.network_.weight.norm()) < 0.5 * float(loose.network_.weight.norm())
    assert clustering_accuracy(Y, RIM(10, epochs=20, random_state=0).fit(X).labels_) > 0.7


@pytest.mark.parametrize(("estimator", "bad", "words"), [(IMSAT, {"lam": -1}, "lam"), (IMSAT, {"xi": 0}, "xi"),
                         (IMSAT, {"neighbors": 0}, "neighbors"), (RIM, {"lr": 0}, "lr"),
                         (RIM, {"epochs": 1.5}, "epochs"),
                         (RIM, {"lam": float("nan")}, "lam")])  # fmt: skip
def test_bad_parameters_are_named(estimator, bad, words):
    with raises_sentence(InputError, words):
        estimator(3, **bad).fit(X[:50])
