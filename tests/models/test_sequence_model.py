"""The model that answers in tokens: teacher forcing, greedy answers, and rows that do not meet."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch, digits_stream
from pyfast_mmcl.models import SequenceModel, Spec
from pyfast_mmcl.train import default_model
from tests.check import raises_sentence

C, S = 11, 4


def rows(n=9, *, hidden=False):
    inputs = {"image": torch.rand(n, 3, 9, 9), "text": torch.randint(1, 20, (n, 5))}
    inputs["text"][:, 3:] = 0
    present = {"image": torch.rand(n) > 0.3, "text": torch.ones(n, dtype=torch.bool)}
    inputs["image"][~present["image"]] = 0
    target = torch.full((n, S), -1) if hidden else torch.randint(C, (n, S))
    return Batch(inputs, target, torch.full((n,), -1), present, torch.arange(n))


def model(**how):
    inputs = {name: x[:1] for name, x in rows(1).inputs.items()}
    made = SequenceModel.for_stream(Spec(inputs, C, vocabulary=20, answer_length=S, width=16, **how)).double()
    for p in made.parameters():
        p.data += 0.3 * torch.randn_like(p)  # far enough from the start that answers differ
    return made.eval()


def with_target(batch, target):
    return Batch(batch.inputs, target, batch.task, batch.present, batch.index)


def test_scores_of_a_place_depend_on_the_answer_before_it_alone():
    made, batch = model(), rows()
    scores = made(batch).scores
    assert scores.shape == (9, S, C)
    for s in range(S):
        other = batch.target.clone()
        other[:, s] = (other[:, s] + 1) % C
        changed = made(with_target(batch, other)).scores
        assert torch.equal(changed[:, : s + 1], scores[:, : s + 1])
        if s + 1 < S:
            assert (changed[:, s + 1] - scores[:, s + 1]).abs().amax(1).min() > 1e-6


def test_greedy_answers_are_those_taken_step_by_step():
    made, batch = model(), rows(hidden=True)
    answer = torch.zeros(9, S, dtype=torch.int64)
    for s in range(S):
        answer[:, s] = made(with_target(batch, answer)).scores[:, s].argmax(-1)
    assert torch.equal(made(batch).scores.argmax(-1), answer) and len(answer.unique(dim=0)) > 2
    assert torch.equal(made.generate(rows_like(batch)), answer)


def rows_like(batch):
    return with_target(batch, torch.randint(C, batch.target.shape))


def test_hidden_rows_among_known_ones():
    made, batch = model(), rows(12)
    hidden = torch.arange(12) % 3 == 0
    mixed = with_target(batch, batch.target.masked_fill(hidden.unsqueeze(1), -1))
    scores = made(mixed).scores
    torch.testing.assert_close(scores[~hidden], made(batch).scores[~hidden])
    all_hidden = with_target(batch, torch.full_like(batch.target, -1))
    torch.testing.assert_close(scores[hidden], made(all_hidden).scores[hidden])


@pytest.mark.parametrize("hidden", [True, False])
def test_rows_do_not_meet_and_missing_pictures_are_not_looked_at(hidden):
    made, batch = model(), rows(13, hidden=hidden)
    whole, order = made(batch), torch.randperm(13)
    again = made(batch.select(order))
    torch.testing.assert_close(again.scores, whole.scores[order])
    torch.testing.assert_close(again.features, whole.features[order])
    torch.testing.assert_close(made(batch.select(slice(3, 4))).scores, whole.scores[3:4])
    assert made(batch.select(slice(0, 0))).scores.shape == (0, S, C)
    batch.inputs["image"][~batch.present["image"]] = 5.0
    torch.testing.assert_close(made(batch).scores, whole.scores)
    assert not whole.modalities["image"][~batch.present["image"]].any()


def test_training_reaches_every_weight():
    made = model().train()
    batch = rows()
    scores = made(batch).scores
    torch.nn.functional.cross_entropy(scores.flatten(0, 1), batch.target.flatten()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in made.parameters())


def test_tokens_of_the_task_alone_where_rows_say_their_task():
    allowed = torch.zeros(2, C, dtype=torch.bool)
    allowed[0, :6], allowed[1, 6:] = True, True
    made, batch = model(n_tasks=2, task_classes=allowed), rows(hidden=True)
    batch.task = torch.arange(9) % 2
    answers = made(batch).scores.argmax(-1)
    assert allowed[batch.task.unsqueeze(1), answers].all()


def test_streams_and_targets_that_do_not_fit_are_refused():
    with raises_sentence(InputError, "gdil", "[B, S]"):
        SequenceModel.for_stream(Spec(rows(1).inputs, C, vocabulary=20))
    with raises_sentence(InputError, "(9, 4)", "(9,)", "−1"):
        made = model()
        made(with_target(rows(), torch.zeros(9, dtype=torch.int64)))
    with raises_sentence(InputError, "multiple of 4"):
        SequenceModel.for_stream(Spec(rows(1).inputs, C, vocabulary=20, answer_length=S, width=18))
    with raises_sentence(InputError, "smell"):
        batch = rows()
        batch.inputs["smell"], batch.present["smell"] = batch.inputs.pop("image"), batch.present.pop("image")
        model()(batch)
    assert not isinstance(default_model(digits_stream()), SequenceModel)
