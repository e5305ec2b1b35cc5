"""Generated answers: which methods take a stream of them, and that nobody sees the answers asked for."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import questions_stream
from pyfast_mmcl.models import SequenceModel
from pyfast_mmcl.train import Learner, Part, default_model, recipes, run_continual
from tests.check import assert_same_bits, raises_sentence
from tests.continual.battery import fitted, make_stream

# What a method says that needs one class per row; all others that take any model run.
REFUSALS = {"icarl": "one class per row", "gdumb": "one class per row"}
ANY_MODEL = sorted(name for name, entry in recipes().items() if entry.model == "classifier")
OWN_MODEL = sorted(name for name, entry in recipes().items() if entry.model not in ("classifier", "sequence"))


@pytest.fixture(autouse=True)
def one_thread(seeded):
    torch.set_num_threads(1)


@pytest.mark.parametrize("method", ANY_MODEL)
def test_every_method_that_takes_any_model_answers_in_tokens_or_says_why_not(method):
    run = fitted(method, "gdil")
    if method in REFUSALS:
        assert isinstance(run, str) and REFUSALS[method] in run
        return
    assert isinstance(run.model, SequenceModel) and run.history.finished
    terms = [epoch["terms"] for epoch in run.history.losses]
    assert all(torch.tensor(list(term.values())).isfinite().all() for term in terms)
    batch = run._stream.loader(0, "test", batch_size=12)[0]
    assert run.predict(batch).shape == (12, 3, 6)


@pytest.mark.parametrize("method", OWN_MODEL)
def test_a_method_with_a_model_of_its_own_says_that_it_takes_classes(method):
    with raises_sentence(InputError, "generated", recipes()[method].model, "any model"):
        default_model(make_stream("gdil"), method)


def test_no_part_and_no_model_sees_the_answer_that_is_asked_for():
    stream, seen = make_stream("gdil"), []

    class Watch(Part):
        def predict(self, learner, batch, out):
            seen.append(batch.target)

    learner = Learner(default_model(stream), "er", epochs=1, batch_size=16, device="cpu", progress=False)
    learner.parts.insert(0, Watch())
    learner.model.register_forward_pre_hook(lambda m, args: None if m.training else seen.append(args[0].target))
    learner.fit(stream)
    assert len(seen) > 4 and all(bool((target == -1).all()) for target in seen)
    batch = stream.loader(0, "test", batch_size=12)[0]
    before = learner.predict(batch)
    batch.target = (batch.target + 1) % 6
    assert_same_bits(learner.predict(batch), before)


def test_it_learns_to_answer_and_replay_keeps_the_answers():
    stream, last = make_stream("gdil"), {}
    for method in ("finetune", "er"):
        run = run_continual(method, stream, epochs=10, batch_size=16, lr=5e-3, device="cpu", progress=False)
        last[method] = run.accuracy
    assert last["finetune"][0][0] > 0.7 and last["er"][1][0] >= last["finetune"][1][0]


def test_token_accuracy_is_at_least_the_share_of_exact_answers():
    stream, measured = make_stream("gdil"), {}
    for measure in (None, "token_accuracy"):
        history = run_continual("finetune", stream, epochs=3, lr=5e-3, measure=measure, device="cpu", progress=False)
        measured[measure] = history.accuracy
    exact, tokens = (torch.tensor(measured[name]) for name in (None, "token_accuracy"))
    assert (exact <= tokens).all() and tokens[1].sum() > 0


def test_questions_about_real_pictures(data_dir):
    stream = questions_stream(folder=data_dir, asked=("style", "description"), rows=200, size=16)
    history = run_continual("er", stream, epochs=4, lr=3e-3, measure="token_accuracy", device="cpu", progress=False)
    assert sum(history.initial) < 0.1 and history.accuracy[0][0] > 0.15 and history.accuracy[1][1] > 0.3
