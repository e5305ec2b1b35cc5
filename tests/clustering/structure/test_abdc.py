"""ABDC: what alternates with what, and what it does for digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.structure.abdc import ABDC
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (64,), "code": 8, "pretrain_epochs": 6, "epochs": 6, "batch_size": 128, "n_init": 3}


def test_centers_are_means_of_codes_at_the_last_assignment():
    model = ABDC(10, **SMALL, lr=1e-30, random_state=0).fit(X)
    codes, labels = torch.from_numpy(model.transform(X)), model.network_.labels
    for k in range(10):
        torch.testing.assert_close(model.network_.centers[k], codes[labels == k].mean(0), rtol=1e-3, atol=1e-4)


def test_codes_draw_nearer_to_their_centers():
    loose, tight = (ABDC(10, **SMALL, lam=lam, random_state=0).fit(X) for lam in (0.0, 1.0))

    def spread(model):
        codes = model.transform(X)
        inside = ((codes - np.asarray(model.cluster_centers_)[model.labels_]) ** 2).sum()
        return inside / ((codes - codes.mean(0)) ** 2).sum()

    assert spread(tight) < 0.7 * spread(loose)
    assert set(tight.history_[-1]["terms"]) == {"reconstruction", "compactness"}
    assert clustering_accuracy(Y, tight.labels_) > 0.55


@pytest.mark.parametrize(("bad", "words"), [({"lam": -1}, "lam"), ({"code": 0}, "code"), ({"n_init": 0}, "n_init")])
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        ABDC(3, **bad).fit(X[:50])
