"""The sequence model: what counts, where the prototypes stand, and that rows do not meet."""

import pytest
import torch
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import PrototypeBank, PrototypeTokens, Spec, TokenClassifier
from pyfast_mmcl.models.tokens import tokens_for
from tests.check import raises_sentence

COLUMNS = {
    "image": torch.zeros(1, 3, 11, 11),
    "sound": torch.zeros(1, 4, 30),
    "text": torch.zeros(1, 6, dtype=torch.int64),
    "vector": torch.zeros(1, 5),
}


def rows(n=9, names=tuple(COLUMNS)):
    random = {name: torch.randn(n, *COLUMNS[name].shape[1:]) for name in names}
    if "text" in names:
        random["text"] = torch.randint(1, 20, (n, 6))
        random["text"][:, 4:] = 0
    present = {name: torch.rand(n) > 0.3 for name in names}
    present[names[0]] |= ~torch.stack(list(present.values())).any(0)
    random = {name: x * present[name].reshape(-1, *[1] * (x.ndim - 1)) for name, x in random.items()}
    return Batch(random, torch.zeros(n, dtype=torch.int64), torch.full((n,), -1), present, torch.arange(n))


def model(names=tuple(COLUMNS), **how):
    return TokenClassifier.for_stream(
        Spec({name: COLUMNS[name] for name in names}, 7, width=32, vocabulary=20, **how)
    ).eval()


def test_tokens_of_every_kind_of_modality():
    sizes = {name: tokens_for(name, column, 32, vocabulary=20)(column).shape[1] for name, column in COLUMNS.items()}
    assert sizes == {"image": 16, "sound": 8, "text": 6, "vector": 1}
    made, batch = model(), rows()
    assert made.question == ("text",) and made.vision == ("image", "sound", "vector")
    out = made(batch)
    assert out.scores.shape == (9, 7) and out.features.shape == (9, 32)
    assert torch.equal(out.modalities["question"].any(1), batch.present["text"])


def test_what_is_missing_or_padding_changes_nothing():
    made, batch = model(), rows(40)
    before = made(batch).scores
    for name in ("image", "sound", "vector"):
        batch.inputs[name][~batch.present[name]] = 3.0
    batch.inputs["text"][~batch.present["text"]] = 5
    torch.testing.assert_close(made(batch).scores, before)
    shorter = Batch({**batch.inputs, "text": batch.inputs["text"][:, :4]}, *_rest(batch))
    torch.testing.assert_close(made(shorter).scores, before)


def test_rows_do_not_meet():
    made, batch = model(), rows(12)
    fill(made.prototypes)
    whole = made(batch).scores
    order = torch.randperm(12)
    torch.testing.assert_close(made(batch.select(order)).scores, whole[order])
    torch.testing.assert_close(made(batch.select(slice(3, 4))).scores, whole[3:4])


def test_prototypes_are_read_once_they_are_known_and_get_no_gradient():
    made, batch = model(n_tasks=3), rows()
    unknown = made(batch).scores
    for bank in (made.prototypes.question, made.prototypes.vision):
        bank.rows.normal_()
    torch.testing.assert_close(made(batch).scores, unknown)
    fill(made.prototypes)
    assert not torch.allclose(made(batch).scores, unknown)
    assert not [name for name, _ in made.named_parameters() if "prototypes" in name]
    assert {name for name in made.state_dict() if "prototypes" in name} == {
        f"prototypes.{side}.{what}" for side in ("question", "vision") for what in ("rows", "known")
    }


@pytest.mark.parametrize("size", [0, 1, 17, 65])
def test_the_nearest_prototype_is_that_of_the_cosine_after_tanh(size):
    bank = PrototypeBank(9, 6)
    x = torch.randn(size, 6, requires_grad=True)
    assert torch.equal(bank.nearest(x), torch.zeros(size, 6))
    bank.move(torch.tensor([1, 4, 7]), torch.randn(3, 6), 0.0)
    found = bank.nearest(x)
    assert not found.requires_grad
    for row, chosen in zip(x.detach().double(), found, strict=True):
        known = bank.rows.double()[[1, 4, 7]]
        cosine = normalize(torch.tanh(known), dim=1) @ normalize(torch.tanh(row), dim=0)
        assert torch.equal(chosen, bank.rows[[1, 4, 7][int(cosine.argmax())]])


def test_two_tokens_are_appended_and_count_where_the_row_has_the_side():
    tokens, made = torch.randn(4, 5, 6), PrototypeTokens(2, 3, 6)
    fill(made)
    counting = torch.ones(4, 5, dtype=torch.bool)
    counting[0, :2] = False
    counting[1, 2:] = False
    question = torch.tensor([True, True, False, False, False])
    longer, counts, means = made(tokens, counting, question, ~question)
    assert longer.shape == (4, 7, 6) and torch.equal(longer[:, :5], tokens)
    assert counts[:, 5].tolist() == [False, True, True, True] and counts[:, 6].tolist() == [True, False, True, True]
    torch.testing.assert_close(means["question"][2], tokens[2, :2].mean(0))
    assert not means["question"][0].any() and not means["vision"][1].any()
    torch.testing.assert_close(longer[2, 6], made.vision.nearest(tokens[2:3, 2:].mean(1))[0])


def test_choices_that_do_not_fit_are_refused():
    with raises_sentence(InputError, "width", "multiple of 4"):
        TokenClassifier.for_stream(Spec({"vector": COLUMNS["vector"]}, 7, width=30))
    with raises_sentence(InputError, "question", "smell"):
        TokenClassifier(dict(model().tokenizers), 7, question=["smell"], width=32)
    with raises_sentence(InputError, "tokenizer", "vector", "Linear"):
        TokenClassifier({"vector": torch.nn.Linear(5, 32)}, 7, width=32)
    with raises_sentence(InputError, "text", "vocabulary="):
        tokens_for("text", COLUMNS["text"], 32)
    with raises_sentence(InputError, "vector"):
        model(("image",))(rows(names=("vector",)))


def fill(prototypes):
    for bank in (prototypes.question, prototypes.vision):
        bank.move(torch.arange(len(bank.rows)), torch.randn_like(bank.rows), 0.0)


def _rest(batch):
    return batch.target, batch.task, batch.present, batch.index
