"""A cluster that loses all its rows in the middle of a training: the others go on, and nothing becomes NaN."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.clustering.test_common import blobs, input_of, make

K = 4


def move_center(network):
    network.centers[0] += 1e4


def lower(bias):
    bias.view(-1, K)[:, 0] -= 60  # of every head


# What empties cluster 0 of a network. Methods that cluster by k-means at the end alone have none before it.
KILLS = {
    "abdc": move_center,
    "dec": move_center,
    "vade": move_center,
    "imsat": lambda network: lower(network.layers[-1].bias),
    "rim": lambda network: lower(network.bias),
    "iic": lambda network: lower(network.heads.bias),
    "cc": lambda network: lower(network.clusters[-1].bias),
    "scan": lambda network: lower(network.heads.bias),
    "tac": lambda network: lower(network.image_head.layers[-1].bias),
}
PARAMETERS = [(name, {}) for name in KILLS] + [("dec", {"improved": True})]


@pytest.mark.parametrize(("name", "more"), PARAMETERS, ids=[f"{n}{'-improved' if m else ''}" for n, m in PARAMETERS])
def test_the_others_go_on(name, more, monkeypatch):
    X, y = blobs(N=120, K=K)
    X = input_of(name, X)
    model = make(name, K, **more)
    phases, left = type(model)._phases, []

    def with_a_loss(self, network, samples, n_clusters):
        *first, last = phases(self, network, samples, n_clusters)

        def start():
            if last.start is not None:
                last.start()
            KILLS[name](network)
            left.extend(self._assign(network, samples.take(torch.arange(len(samples)))).argmax(1).unique().tolist())

        return [*first, replace(last, start=start)]

    monkeypatch.setattr(type(model), "_phases", with_a_loss)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X)
    assert left and 0 not in left  # it was lost
    assert all(np.isfinite(value) for epoch in model.history_ for value in epoch["terms"].values())
    assert all(bool(torch.isfinite(weights).all()) for weights in model.network_.state_dict().values())
    assert np.isfinite(model.predict_proba(X)).all()
    # Half of the rows at least are still in groups of their own.
    assert clustering_accuracy(y, model.labels_) >= 0.5
