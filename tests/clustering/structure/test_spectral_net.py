"""SpectralNet: orthonormal coordinates, rings that k-means cannot tell apart, digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import make_circles

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.structure.spectral_net import SpectralNet, whitening_of
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (64, 64), "epochs": 20, "batch_size": 300, "n_init": 3}


def test_whitened_outputs_are_orthonormal():
    y = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ torch.randn(4, 4).double()
    white = y @ whitening_of(y)
    torch.testing.assert_close(white.T @ white / 50, torch.eye(4, dtype=torch.float64), rtol=1e-4, atol=1e-4)
    assert torch.isfinite(whitening_of(torch.zeros(5, 3))).all()
    model = SpectralNet(10, **SMALL, random_state=0).fit(X)
    z = model.transform(X)
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(10), atol=0.01)


def test_rings_are_told_apart():
    rows, ring = make_circles(600, factor=0.4, noise=0.03, random_state=0)
    model = SpectralNet(2, widths=(64, 64), epochs=60, batch_size=300, random_state=0).fit(rows)
    assert clustering_accuracy(ring, model.labels_) > 0.95
    assert clustering_accuracy(ring, KMeans(2, random_state=0).fit(rows).labels_) < 0.7


@pytest.mark.parametrize("siamese", [(), (64, 8)])
def test_digits_are_found_better_than_by_k_means(siamese):
    model = SpectralNet(10, **SMALL, siamese=siamese, siamese_epochs=8, random_state=0).fit(X)
    assert clustering_accuracy(Y, model.labels_) > 0.75
    phases = {epoch["phase"] for epoch in model.history_}
    assert phases == ({"distances", "spectrum"} if siamese else {"spectrum"})


def test_a_few_rows_at_the_end_do_not_inflate_the_smoothness():
    # Within a batch of 5 rows 10 functions cannot be orthonormal, and those that are hardly smooth.
    how = {**SMALL, "epochs": 4, "random_state": 0}
    whole, more = (SpectralNet(10, **how).fit(X[:n]).history_ for n in (600, 605))
    for a, b in zip(whole, more, strict=True):
        assert b["steps"] == 2 and b["terms"]["smoothness"] == pytest.approx(a["terms"]["smoothness"], rel=0.5)


@pytest.mark.parametrize(("bad", "words"), [({"neighbors": 0}, "neighbors"), ({"siamese": (0,)}, "siamese"),
                                            ({"lr": 0}, "lr")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        SpectralNet(3, **bad).fit(X[:50])
