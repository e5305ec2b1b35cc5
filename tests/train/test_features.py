"""Frozen features: the same stream, with embeddings in place of what encoders would see again and again."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.data.stream import SPLITS
from pyfast_mmcl.train import default_model, run_continual
from pyfast_mmcl.train.features import frozen_features
from tests.check import assert_same_bits, raises_sentence
from tests.continual.battery import make_stream


@pytest.fixture(autouse=True)
def one_thread(seeded):
    torch.set_num_threads(1)


@pytest.mark.parametrize("scenario", ["cil", "til", "mdtil", "gdil"])
def test_rows_are_embeddings_and_all_else_is_as_it_was(scenario):
    stream = make_stream(scenario)
    model = default_model(stream, width=16).train()
    features = frozen_features(stream, model)
    assert model.training and features.n_classes == stream.n_classes and features.scenario == stream.scenario
    for task, other in zip(stream.tasks, features.tasks, strict=True):
        assert (task.name, task.classes, task.modalities) == (other.name, other.classes, other.modalities)
        assert all(torch.equal(stream.rows(task.id, s), features.rows(task.id, s)) for s in SPLITS)
    rows = torch.arange(40, 60)
    inputs, present, target = features.gather(rows)
    batch = stream.loader(0, batch_size=96)[0]
    model.eval()
    known = torch.isin(rows, batch.index)
    embedded = model(batch).modalities
    for name, x in inputs.items():
        _, there, answer = stream.gather(rows)
        assert x.shape == (20, 16) and torch.equal(present[name], there[name]) and torch.equal(target, answer)
        mine = torch.isin(batch.index, rows)
        expected = embedded[name][mine].masked_fill(~present[name][known].unsqueeze(1), 0.0)
        torch.testing.assert_close(x[known], expected, rtol=1e-5, atol=1e-6)


def test_features_are_the_same_bits_whatever_the_threads():
    stream, found = make_stream("cil"), []
    model = default_model(stream, width=16)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(frozen_features(stream, model).gather(torch.arange(96))[0]["image"])
    assert_same_bits(*found)


def test_generative_replay_of_features_keeps_what_fine_tuning_forgets():
    stream = digits_stream("cil", 2, test=0.7)
    model = default_model(stream, width=32)
    run_continual("joint", stream, model=model, epochs=3, lr=5e-3, device="cpu", progress=False)
    features, last = frozen_features(stream, model), {}
    for method, hyper in (("finetune", {}), ("dgr", {"generator_epochs": 50, "hidden": 64, "latent": 16})):
        history = run_continual(method, features, epochs=6, lr=5e-3, device="cpu", progress=False, **hyper)
        last[method] = history.accuracy[1][0]
    assert last["dgr"] > last["finetune"] + 0.2, last


class Bare(torch.nn.Module):
    def forward(self, batch):
        return torch.zeros(len(batch), 6)


def test_a_model_without_embeddings_is_refused():
    with raises_sentence(InputError, "image", "text", "Output"):
        frozen_features(make_stream("cil"), Bare())
