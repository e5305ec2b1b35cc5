"""CC: its objective term by term, its parameters, and torchvision's networks by name."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.augmentation.cc import CC
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.clustering.samples import read_samples
from pyfast_mmcl.losses.invariance import imbalance
from pyfast_mmcl.train.phases import Step
from tests.check import raises_sentence
from tests.clustering.images import SHADES, as_images, shaded, tiny_encoder

QUICK = {"backbone": tiny_encoder, "augment": SHADES, "projection": 8, "epochs": 3, "batch_size": 32, "random_state": 0}


def images(N: int = 90) -> np.ndarray:
    rng = np.random.default_rng(0)
    return as_images((10 * np.eye(3, 8)[np.arange(N) % 3] + rng.normal(size=(N, 8))).astype(np.float32))


def contrast(z: torch.Tensor, temperature: float) -> torch.Tensor:
    """NT-Xent, written out."""
    z = normalize(z.double(), dim=1)
    s = (z @ z.T / temperature).fill_diagonal_(-torch.inf)
    n = len(z) // 2
    return torch.nn.functional.cross_entropy(s, (torch.arange(2 * n) + n) % (2 * n))


def test_terms_are_their_formulas():
    model = CC(3, **QUICK, tau_instance=0.3, tau_cluster=0.7)
    samples = read_samples(images(), torch.device("cpu"), images=True)
    network = model._network(samples, 3).eval()
    (phase,) = model._phases(network, samples, 3)
    rows = torch.arange(20)
    terms = phase.players[0].objective(Step(rows, torch.Generator().manual_seed(4), 0.0, 0))
    x = samples.take(rows)
    views = shaded(torch.cat([x, x]), torch.Generator().manual_seed(4))
    with torch.no_grad():
        codes = network.encoder(views)
        p, q = network.clusters(codes).softmax(1).chunk(2)
        expected = {
            "instances": contrast(network.instances(codes), 0.3),
            "clusters": contrast(torch.cat([p.T, q.T]), 0.7),
            "balance": (imbalance(p) + imbalance(q)).double(),
        }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name].double(), value, rtol=1e-5, atol=1e-6)


def test_clusters_learn_to_be_told_apart():
    X = images()
    model = CC(3, **{**QUICK, "epochs": 12, "lr": 0.005}).fit(X)
    first, last = model.history_[0]["terms"], model.history_[-1]["terms"]
    assert last["clusters"] < first["clusters"] and last["instances"] < first["instances"]
    assert model.transform(X).shape == (90, 16) and model.predict_proba(X).shape == (90, 3)


def test_bfloat16_and_a_network_of_torchvision():
    X = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)
    how = {**QUICK, "backbone": "resnet18", "augment": "auto", "epochs": 1, "batch_size": 3}
    model = CC(2, **how, training=Training(precision="bf16")).fit(X)
    assert np.isfinite(model.predict_proba(X)).all() and model.transform(X).shape == (6, 512)


@pytest.mark.parametrize(("bad", "words"), [({"projection": 0}, "projection"), ({"tau_instance": 0}, "tau_instance"),
                                           ({"tau_cluster": -1}, "tau_cluster"), ({"epochs": 1.5}, "epochs"),
                                           ({"augment": "simclr "}, "simclr")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        CC(3, **{**QUICK, **bad}).fit(images())
