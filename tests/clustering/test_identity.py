"""What a checkpoint of a deep estimator says about parameters that are no numbers."""

import json

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import CheckpointError
from pyfast_mmcl.clustering.augment import Batched, Policy
from pyfast_mmcl.clustering.augmentation.cc import CC
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.clustering.text_bank import TextBank
from pyfast_mmcl.train.identity import told
from tests.check import raises_sentence
from tests.clustering.images import shaded, tiny_encoder


def test_parameters_are_told_apart():
    assert told((1, "a", None)) == (1, "a", None)
    assert told(Policy()) != told(Policy(flip=0.1)) and told(Policy()) == told(Policy())
    assert told(Batched(shaded)) == {"Batched": {"function": "tests.clustering.images.shaded"}}
    assert told(np.mean).startswith("numpy")
    bank, other = (TextBank(np.eye(2) + offset, ("a", "b")) for offset in (0, 1))
    assert told(bank) == told(TextBank(np.eye(2), ("a", "b"))) != told(other)
    for value in (Policy(), Batched(shaded), bank, np.mean, object()):
        json.dumps(told(value))


def test_arrays_are_told_by_a_hash_however_large_they_are():
    large = np.random.default_rng(0).normal(size=(500, 64))
    assert len(told(large)) < 120 and told(large) == told(large.copy())
    assert told(large) == told(torch.from_numpy(large)) != told(large + 1)
    assert told(large) != told(large.reshape(64, 500)) != told(large.astype(np.float32))
    assert told(np.int64(3)) == 3


def test_another_policy_does_not_resume(tmp_path):
    X = np.random.default_rng(0).random((40, 1, 8, 8), dtype=np.float32)

    def fit(policy, **training):
        how = Training(checkpoint_dir=tmp_path, **training)
        CC(2, backbone=tiny_encoder, augment=policy, epochs=1, batch_size=20, random_state=0, training=how).fit(X)

    fit(Policy(flip=0.5))
    fit(Policy(flip=0.5), resume=True)
    with raises_sentence(CheckpointError, "its parameters.augment.Policy.flip is 0.5, here it is 0.0") as caught:
        fit(Policy(flip=0.0), resume=True)
    assert len(str(caught.value)) < 200 + len(str(tmp_path))


@pytest.mark.parametrize("value", [Policy, Batched], ids=["Policy", "Batched"])
def test_a_class_is_told_by_its_name(value):
    assert told(value) == f"pyfast_mmcl.clustering.augment.{value.__name__}"
