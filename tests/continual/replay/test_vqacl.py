"""VQACL's prototypes against their rules written out row by row, and what the sequence model reads of them."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.continual.replay.vqacl import MovingPrototypes
from pyfast_mmcl.data import digits_stream, spoken_digits_stream
from pyfast_mmcl.models import Output, PrototypeTokens
from pyfast_mmcl.train import Learner, default_model, run_continual
from tests.check import raises_sentence
from tests.continual.replay import restated


class Sequence(torch.nn.Module):
    def __init__(self, types, classes):
        super().__init__()
        self.prototypes = PrototypeTokens(types, classes, 4).double()


def test_prototypes_move_by_the_rules_of_the_card():
    model, question, vision = Sequence(3, 6), {}, {}
    part = MovingPrototypes(0.5, 0.3)
    for step in range(6):
        now = step // 2
        batch = restated.random_batch(seed=step)
        batch.task = (batch.target // 2).clamp(max=now)
        batch.task[: batch.fresh] = now
        g = torch.Generator().manual_seed(step)
        means = {m: torch.randn(len(batch), 4, generator=g, dtype=torch.float64) for m in ("question", "vision")}
        for side, name in (("question", "a"), ("vision", "b")):
            means[side][~batch.present[name]] = 0
        task = type("Task", (), {"id": now})
        part.after_step(restated.learner(model=model, task=task), batch, Output(torch.zeros(23, 6), None, means))
        for kept, side, key, name in ((question, "question", batch.task, "a"), (vision, "vision", batch.target, "b")):
            for k in set(key.tolist()):
                rows = [means[side][i] for i in range(23) if key[i] == k and batch.present[name][i]]
                if not rows:
                    continue
                mean = torch.stack(rows).mean(0)
                momentum = 0.3 if side == "vision" else 0.0 if k == now else 0.5
                kept[k] = momentum * kept[k] + (1 - momentum) * mean if k in kept else mean
        for kept, bank in ((question, model.prototypes.question), (vision, model.prototypes.vision)):
            assert bank.known.nonzero().flatten().tolist() == sorted(kept)
            for k, row in kept.items():
                torch.testing.assert_close(bank.rows[k], row, rtol=1e-12, atol=1e-14)


def test_prototypes_of_classes_that_a_batch_lacks_stay_as_they_are():
    model, part = Sequence(3, 6), MovingPrototypes(0.5, 0.3)
    bank = model.prototypes.vision
    bank.move(torch.arange(6), torch.ones(6, 4), 0.0)
    batch = restated.random_batch(missing=0.0)
    batch.target = batch.target.clamp(max=2)
    out = Output(torch.zeros(23, 6), None, dict.fromkeys(("question", "vision"), torch.full((23, 4), 2.0)))
    for _ in range(5):
        part.after_step(restated.learner(model=model, task=type("Task", (), {"id": 0})), batch, out)
    assert torch.equal(bank.rows[3:], torch.ones(3, 4, dtype=torch.float64)) and float(bank.rows[0, 0]) > 1.9


def test_half_of_the_memory_goes_to_every_task_and_its_classes_alike():
    stream = digits_stream(n_tasks=2)
    run = Learner(default_model(stream, "vqacl"), "vqacl", epochs=1, device="cpu", progress=False)
    run.fit(stream)
    counts = run.parts[0].memory_.all().target.bincount(minlength=10)
    assert int(counts.sum()) == 200 and int(counts.max() - counts.min()) <= 1
    known = run.model.prototypes
    assert known.question.known.tolist() == [True, True] and known.vision.known.all()


def test_models_without_prototypes_are_refused():
    stream = digits_stream()
    with raises_sentence(InputError, "vqacl", "TokenClassifier", "MultimodalClassifier"):
        run_continual("vqacl", stream, model=default_model(stream), device="cpu", progress=False)
    with raises_sentence(InputError, "n_types", "2 types"):
        few = default_model(digits_stream(n_tasks=2), "vqacl")
        run_continual("vqacl", stream, model=few, epochs=1, device="cpu", progress=False)
    with raises_sentence(InputError, "question_momentum", "1.5"):
        run_continual("vqacl", stream, question_momentum=1.5)


def test_beats_fine_tuning_of_the_same_model_on_digits():
    stream = digits_stream()
    last = {}
    for method in ("finetune", "vqacl"):
        model = default_model(stream, "vqacl")
        history = run_continual(method, stream, model=model, epochs=2, device="cpu", progress=False)
        last[method] = history.summary()["last_accuracy"]
    # .19 and .87 after ten epochs.
    assert last["vqacl"] > last["finetune"] + 0.15


def test_one_modality_is_question_and_object_at_once():
    stream = digits_stream(n_tasks=2, modalities=["image"])
    model = default_model(stream, "vqacl")
    assert model.question == model.vision == ("image",)
    history = run_continual("vqacl", stream, model=model, epochs=2, device="cpu", progress=False)
    assert history.summary()["last_accuracy"] > 0.4


def test_digits_seen_and_heard(data_dir):
    stream = spoken_digits_stream(n_tasks=2, folder=data_dir)
    history = run_continual("vqacl", stream, epochs=1, device="cpu", progress=False)
    assert history.summary()["last_accuracy"] > 0.5


@pytest.mark.parametrize("hyper", [{}, {"question_momentum": 1, "vision_momentum": 0}])
def test_hyper_parameters_reach_the_part(hyper):
    from pyfast_mmcl.train.registry import get_recipe

    part = get_recipe("vqacl").build(**hyper)[-1]
    assert (part.question_momentum, part.vision_momentum) == ((1.0, 0.0) if hyper else (0.5, 0.3))
