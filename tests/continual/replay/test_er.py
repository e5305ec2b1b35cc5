"""Experience replay forgets less than fine-tuning and is bounded by joint training."""

import pytest
import torch

from pyfast_mmcl._errors import UnknownNameError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import Learner, default_model, run_continual
from pyfast_mmcl.train.parts import Replay
from tests.check import assert_same_bits
from tests.continual.replay.truth import Cut, Killed, fitted, flat, make, memory_part, small_stream


@pytest.fixture(scope="module")
def summaries():
    stream = digits_stream()
    runs = {m: run_continual(m, stream, device="cpu", progress=False) for m in ("finetune", "er", "joint")}
    return {name: history.summary() for name, history in runs.items()}


def test_order_of_the_three_on_digits(summaries):
    last = {name: values["last_accuracy"] for name, values in summaries.items()}
    # Around .18, .87 and .96 with the defaults; seeds move the second by .02.
    assert last["finetune"] < 0.3 < 0.7 < last["er"] < last["joint"] and last["joint"] > 0.9


def test_forgetting_on_digits(summaries):
    forgetting = {name: values["forgetting"] for name, values in summaries.items()}
    assert forgetting["finetune"] > 0.85 > 0.3 > forgetting["er"] > forgetting["joint"] - 0.02


def test_memory_holds_rows_of_every_task_with_both_modalities():
    stream = digits_stream()
    learner = Learner(default_model(stream), "er", epochs=1, device="cpu", progress=False, hyper={"capacity": 100})
    learner.fit(stream)
    (memory,) = [part.memory_ for part in learner.parts if isinstance(part, Replay)]
    kept = memory.all()
    assert len(kept) == 100 and set(kept.task.tolist()) == set(range(5))
    train = torch.cat([stream.rows(t) for t in range(5)])
    assert torch.isin(kept.index, train).all()
    inputs, _, target = stream.gather(kept.index)
    assert torch.equal(kept.target, target) and all(torch.equal(kept.inputs[m], inputs[m]) for m in inputs)


def test_policy_and_storage_are_the_users_choice():
    stream = digits_stream(missing={"text": 0.3})
    base = {"epochs": 1, "device": "cpu", "progress": False}

    def memory(**hyper):
        learner = Learner(default_model(stream), "er", hyper=hyper, **base)
        learner.fit(stream)
        return learner.parts[0].memory_

    balanced = memory(capacity=100, policy="class_balanced", codecs={"image": "uint8"})
    assert torch.bincount(balanced.all().target).tolist() == [10] * 10
    plain = memory(capacity=100, policy="class_balanced")
    assert torch.equal(plain.index, balanced.index) and balanced.nbytes < plain.nbytes - 100 * 150
    torch.testing.assert_close(plain.all().inputs["image"], balanced.all().inputs["image"], atol=1.001 / 510, rtol=0)
    bounded = memory(capacity=None, max_bytes=20_000)
    assert 19_000 < bounded.nbytes <= 20_000
    ring = memory(capacity=50, policy="ring")
    assert set(ring.all().task.tolist()) == {4}


def test_a_memory_in_files_gives_the_same_run_also_when_resumed(tmp_path):
    stream, hyper = small_stream(), {"capacity": 20, "epochs": 2}
    plain = fitted(stream, "er", Cut(), **hyper)
    mapped = {"storage": "memmap", "folder": str(tmp_path / "map"), **hyper}
    saved = {"checkpoint_dir": tmp_path / "saved", "checkpoint_every": 1, **mapped}
    with pytest.raises(Killed):
        make(stream, "er", Cut("edit_grads", 7), **saved).fit(stream)
    resumed = make(stream, "er", Cut(), **saved)
    resumed.fit(stream, resume=True)
    assert_same_bits(flat(plain), flat(resumed))
    assert torch.equal(memory_part(plain).memory_.index, memory_part(resumed).memory_.index)
    assert list((tmp_path / "map").rglob("*.bin"))


def test_a_policy_that_does_not_exist_is_named():
    with pytest.raises(UnknownNameError, match="class_balanced"):
        run_continual("er", digits_stream(), policy="class_balance", progress=False)
