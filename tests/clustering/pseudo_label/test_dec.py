"""DEC and IDEC: the phases, the stop, and what they do for digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.pseudo_label.dec import DEC
from pyfast_mmcl.clustering.samples import read_samples
from pyfast_mmcl.losses.clustering import student_t, target_distribution
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

SMALL = {"widths": (32,), "code": 4, "pretrain_epochs": 5, "epochs": 6, "batch_size": 16, "n_init": 2}


def rows(N: int = 90) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (5 * np.eye(3, 6)[np.arange(N) % 3] + rng.normal(size=(N, 6))).astype(np.float32)


def test_targets_are_those_of_the_last_update():
    X = rows()
    model = DEC(3, **SMALL, update_interval=1000, random_state=0).fit(X)
    phases = [epoch["phase"] for epoch in model.history_]
    assert phases == ["pretraining"] * 5 + ["clustering"] * 6
    # One update only, at the start: the targets belong to the codes as pretraining left them.
    before = DEC(3, **{**SMALL, "epochs": 1}, update_interval=1000, lr=1e-30, random_state=0).fit(X)
    codes = torch.from_numpy(before.transform(X))
    expected = target_distribution(student_t(codes, torch.from_numpy(before.cluster_centers_)))
    torch.testing.assert_close(model.network_.target, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("interval", "N", "steps"), [(None, 90, 6), (None, 33, 2), (None, 16 * 300, 140), (5, 90, 5), (1000, 90, 1000)]
)
def test_targets_are_renewed_at_least_every_epoch_of_a_small_set(interval, N, steps):
    model, samples = DEC(3, **SMALL, update_interval=interval), read_samples(rows(N), torch.device("cpu"))
    assert model._phases(model._network(samples, 3), samples, 3)[1].watch_every == steps


def test_clustering_ends_when_labels_stand_still():
    model = DEC(3, **{**SMALL, "epochs": 500}, update_interval=3, tol=0.05, random_state=0).fit(rows())
    assert sum(epoch["phase"] == "clustering" for epoch in model.history_) < 500


def test_dec_leaves_the_decoder_and_idec_trains_it():
    X = rows()
    start = DEC(3, **SMALL, lr=1e-30, random_state=0).fit(X).network_.autoencoder.decoder[0].weight
    dec = DEC(3, **SMALL, random_state=0).fit(X).network_.autoencoder.decoder[0].weight
    idec = DEC(3, **SMALL, improved=True, random_state=0).fit(X)
    assert torch.equal(dec, start)
    assert not torch.equal(idec.network_.autoencoder.decoder[0].weight, start)
    assert set(idec.history_[-1]["terms"]) == {"reconstruction", "clustering"}


@pytest.mark.parametrize(("bad", "words"), [({"batch_size": 0}, "batch_size"), ({"epochs": -1}, "epochs"),
                                           ({"widths": (0,)}, "widths"), ({"lr": 0}, "lr"), ({"n_init": 0}, "n_init"),
                                           ({"tol": -1}, "tol"), ({"training": 3}, "Training")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        DEC(3, **{**SMALL, **bad}, random_state=0).fit(rows())


@pytest.mark.parametrize("improved", [False, True])
def test_digits_are_found_better_than_by_chance_centers(improved):
    X, y = digits()
    how = {"widths": (128, 256), "pretrain_epochs": 15, "epochs": 8, "update_interval": 15, "n_init": 3}
    model = DEC(10, **how, improved=improved, batch_size=128, random_state=0).fit(X)
    assert clustering_accuracy(y, model.labels_) > 0.7
