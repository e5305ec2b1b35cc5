"""Hard attention: earlier answers keep their bits where masks are binary, with any optimizer, and training works."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.architecture.hat import TaskMasks
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.models import MaskedClassifier
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from tests.check import assert_same_bits, raises_sentence
from tests.continual.regularization.truth import small_stream

OPTIMIZERS = {
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.5),
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
}


class Answers(Part):
    """The scores of every task's test rows after each task."""

    def __init__(self, stream):
        self.stream, self.kept, self.scales = stream, [], []

    def after_step(self, learner, batch, out):
        self.scales.append(float(learner.model._scale))

    def after_task(self, learner, task, loader):
        rows = [learner.predict(self.stream.loader(t, "test", batch_size=99)[0]) for t in range(self.stream.n_tasks)]
        self.kept.append([x.clone() for x in rows])


def run(stream, optimizer, *, binary=True, **settings):
    model = default_model(stream, "hat", width=8)
    if binary:
        with torch.no_grad():
            for gate in model.all_gates():
                for e in gate.embeddings:
                    e.copy_(6 * e.sign())
    chosen = {"epochs": 3, "batch_size": 8, "device": "cpu", "progress": False, **settings}
    learner = Learner(model, "hat", optimizer=optimizer, **chosen)
    learner.parts.append(Answers(stream))
    learner.fit(stream)
    return learner


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_answers_to_earlier_tasks_keep_their_bits_where_masks_are_binary(optimizer):
    stream = small_stream("til")
    learner = run(stream, OPTIMIZERS[optimizer])
    for gate in learner.model.all_gates():
        assert set(gate.cumulative.unique().tolist()) <= {0.0, 1.0}
    kept = learner.parts[-1].kept
    for after in range(1, 3):
        for task in range(after):
            assert_same_bits(kept[after][task], kept[task][task])
        assert not torch.equal(kept[after][after], kept[after - 1][after])
        # Something was learnt with the units that were left.
        assert learner.history.accuracy[after][after] >= learner.history.accuracy[after - 1][after]


def test_without_the_put_back_decay_would_wear_them_away(monkeypatch):
    monkeypatch.setattr(MaskedClassifier, "hold", lambda self, task: None)
    kept = run(small_stream("til"), OPTIMIZERS["adamw"]).parts[-1].kept
    assert not torch.equal(kept[2][0], kept[0][0])


def test_every_epoch_goes_from_soft_to_hard():
    stream = small_stream("til")
    learner = run(stream, "sgd", epochs=2, batch_size=11, hyper={"s_max": 50.0})
    steps = learner.steps_per_epoch
    epoch = [1 / 50 + (50 - 1 / 50) * b / (steps - 1) for b in range(steps)]
    assert steps == 3
    assert learner.parts[-1].scales == pytest.approx(epoch * 6, rel=1e-5)
    whole = run(stream, "sgd", epochs=1, batch_size=999)
    assert whole.parts[-1].scales == [400.0] * 3


def test_the_term_is_the_weighted_share_of_free_units():
    stream, seen = small_stream("til"), []

    class Look(Part):
        def loss(self, learner, batch, out):
            term = learner.parts[0].loss(learner, batch, out)
            seen.append((float(term.detach()), 0.3 * float(learner.model.usage(learner.task.id).detach())))

    learner = Learner(default_model(stream, "hat", width=8), "hat", epochs=1, progress=False, hyper={"lam": 0.3})
    learner.parts.append(Look())
    learner.fit(stream)
    assert len(seen) == learner.step and all(a == pytest.approx(b) for a, b in seen)
    off = Learner(default_model(stream, "hat", width=8), "hat", epochs=1, progress=False, hyper={"lam": 0.0})
    off.fit(stream)
    assert "task_masks" not in off.history.losses[-1]["terms"]


def test_digits_are_learnt_and_not_forgotten():
    stream = digits_stream("til", 3, modalities=("image",))
    summary = run_continual("hat", stream, epochs=5, lr=0.005, progress=False, device="cpu").summary()
    # .98 and .00 with this seed, .96 and .00 with the next.
    assert summary["last_accuracy"] > 0.85 and summary["forgetting"] < 0.03


def test_mistakes_are_named():
    with raises_sentence(InputError, "task id", "til"):
        run_continual("hat", small_stream("cil"), progress=False)
    stream = small_stream("til")
    with raises_sentence(InputError, "hat", "MaskedClassifier"):
        run_continual("hat", stream, model=default_model(stream), progress=False)
    with raises_sentence(InputError, "s_max"):
        TaskMasks(0.75, 1.0)
    with raises_sentence(InputError, "lam"):
        TaskMasks(-0.1, 400.0)
