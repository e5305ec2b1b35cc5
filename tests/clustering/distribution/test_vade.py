"""VaDE: start from a mixture, both likelihoods, and what it does for digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering.distribution.vade import VaDE
from pyfast_mmcl.clustering.samples import read_samples
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (64, 128), "pretrain_epochs": 8, "epochs": 10, "batch_size": 100}


def test_the_prior_starts_from_a_mixture_of_the_codes():
    model = VaDE(10, **{**SMALL, "epochs": 0}, random_state=0).fit(X)
    phases = {epoch["phase"] for epoch in model.history_}
    assert phases == {"pretraining"}
    codes = torch.from_numpy(model.transform(X))
    weights = model.predict_proba(X).mean(0)
    expected = model.network_.mixture()[0].exp().detach().numpy()
    np.testing.assert_allclose(weights, expected, atol=0.02)
    of_cluster = codes[torch.from_numpy(model.labels_) == 0]
    assert float((of_cluster.mean(0) - model.network_.centers[0]).norm()) < float(codes.std(0).norm())


def test_codes_start_with_a_tenth_of_the_variance_within_components():
    network = VaDE(10, **{**SMALL, "epochs": 0}, random_state=0).fit(X).network_
    within = network.mixture()[0].exp() @ network.center_log_variance.exp()
    torch.testing.assert_close(network.log_variance(torch.rand(3, 128)), (within / 10).log().expand(3, -1))


def test_the_first_epochs_keep_the_clusters_of_rows_of_few_features():
    model = VaDE(10, **{**SMALL, "epochs": 3}, likelihood="bernoulli", random_state=0).fit(X)
    assert np.bincount(model.labels_, minlength=10).min() > 30


def test_digits_are_found():
    model = VaDE(10, **SMALL, random_state=0).fit(X)
    assert clustering_accuracy(Y, model.labels_) > 0.65
    assert set(model.history_[-1]["terms"]) == {"reconstruction", "divergence"}


def test_bernoulli_rows_lie_between_zero_and_one():
    model = VaDE(3, widths=(16,), code=2, pretrain_epochs=1, epochs=2, likelihood="bernoulli", random_state=0)
    model.fit(X[:60] * 3 - 7)
    shift, factor = model._scaling
    scaled = (X[:60] * 3 - 7 - shift.numpy()) * factor
    assert scaled.min() == 0 and scaled.max() == pytest.approx(1)


def test_a_smaller_weight_lets_codes_leave_the_prior():
    small = {"widths": (32,), "code": 4, "pretrain_epochs": 2, "epochs": 6, "lr": 5e-3, "random_state": 0}
    full, free = (VaDE(3, beta=beta, **small).fit(X[:300]) for beta in (1.0, 0.01))
    last = [model.history_[-1]["terms"] for model in (full, free)]
    assert last[1]["divergence"] / 0.01 > last[0]["divergence"]
    assert last[1]["reconstruction"] < last[0]["reconstruction"]
    assert VaDE(3, beta=0, **small).fit(X[:300]).history_[-1]["terms"]["divergence"] == 0


@pytest.mark.parametrize("epochs", [5, 15, 47])
def test_the_learning_rate_falls_every_ten_epochs(epochs):
    model, samples = VaDE(3, widths=(8,), epochs=epochs, batch_size=20), read_samples(X[:60], torch.device("cpu"))
    clustering = model._phases(model._network(samples, 3), samples, 3)[1]
    factors = [clustering.players[0].schedule(epoch / epochs) for epoch in range(epochs)]
    assert factors == pytest.approx([0.9 ** (epoch // 10) for epoch in range(epochs)])


def test_bad_parameters_are_named():
    with raises_sentence(UnknownNameError, "likelihood", "gausian"):
        VaDE(3, likelihood="gausian").fit(X[:50])
    for bad, words in (({"code": 0}, "code"), ({"widths": ()}, "widths"), ({"lr": -1}, "lr"), ({"beta": -1}, "beta")):
        with raises_sentence(InputError, words):
            VaDE(3, **bad).fit(X[:50])


def test_a_single_row_is_too_few_for_a_mixture():
    with raises_sentence(InputError, "VaDE", "at least 2 rows", "n_samples=1"):
        VaDE(1, widths=(8,), code=2, pretrain_epochs=1, epochs=1).fit(X[:1])
