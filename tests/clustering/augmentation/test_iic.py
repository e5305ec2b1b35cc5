"""IIC: its objective, which head answers, and what it does for digits."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering.augmentation import iic
from pyfast_mmcl.clustering.augmentation.iic import IIC
from pyfast_mmcl.losses.invariance import joint_assignment, joint_information
from tests.check import raises_sentence
from tests.clustering.images import SHADES, as_images, tiny_encoder

QUICK = {"backbone": tiny_encoder, "augment": SHADES, "epochs": 6, "batch_size": 16, "lr": 0.01, "random_state": 0}


def images(N: int = 90) -> np.ndarray:
    rng = np.random.default_rng(0)
    return as_images((10 * np.eye(3, 8)[np.arange(N) % 3] + rng.normal(size=(N, 8))).astype(np.float32))


def test_the_head_with_the_most_information_answers(monkeypatch):
    seen = []

    def joints(*arguments):
        seen.append(joint(*arguments))
        return seen[-1]

    joint = iic.joint_of_all
    monkeypatch.setattr(iic, "joint_of_all", joints)
    X = images()
    model = IIC(3, **QUICK, heads=4).fit(X)
    information = joint_information(seen[0])
    assert information.shape == (4,) and int(model.network_.best) == int(information.argmax())
    network = model.network_
    with torch.no_grad():
        p = network.assign(network.encoder(torch.from_numpy(X)), network.heads)
    np.testing.assert_allclose(model.predict_proba(X), p[:, int(network.best)].numpy(), rtol=1e-5, atol=1e-6)


def test_joint_of_all_is_the_mean_over_all_rows():
    X = images(50)
    model = IIC(3, **{**QUICK, "augment": "none"}).fit(X)
    soft = torch.from_numpy(model.predict_proba(X))

    class Parts:
        def __len__(self):
            return 50

        def blocks(self):
            for rows in torch.arange(50).split(17):
                yield rows, torch.from_numpy(X)[rows]

    with torch.no_grad():
        joint = iic.joint_of_all(model.network_, Parts(), lambda x, generator: x)[int(model.network_.best)]
    torch.testing.assert_close(joint, joint_assignment(soft, soft), rtol=1e-4, atol=1e-6)


def test_terms_are_informations_below_the_logarithms_of_the_numbers_of_clusters():
    model = IIC(3, **QUICK, over=4).fit(images())
    for epoch in model.history_:
        assert -np.log(3) <= epoch["terms"]["clusters"] <= 1e-6
        assert -np.log(12) <= epoch["terms"]["overclusters"] <= 1e-6
    assert model.history_[-1]["terms"]["clusters"] < model.history_[0]["terms"]["clusters"]
    assert model.network_.over.out_features == 5 * 12 and model.transform(images()).shape == (90, 16)


@pytest.mark.parametrize(("bad", "words"), [({"heads": 0}, "heads"), ({"over": 0}, "over"), ({"lam": -1}, "lam"),
                                           ({"lr": 0}, "lr"), ({"augment": 3}, "policy"),
                                           ({"backbone": torch.nn.Flatten()}, "backbone")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        IIC(3, **{**QUICK, **bad}).fit(images())
    with raises_sentence(UnknownNameError, "small"):
        IIC(3, **{**QUICK, "backbone": "smal"}).fit(images())
