"""Two towers: sides, unit rows, what a missing side is."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import DualEncoder, Spec
from tests.check import raises_sentence

INPUTS = {"image": torch.zeros(1, 3, 9, 9), "text": torch.zeros(1, 5, dtype=torch.int64)}


def rows(n=7, **present):
    inputs = {"image": torch.randn(n, 3, 9, 9), "text": torch.randint(1, 20, (n, 5))}
    shown = {name: present.get(name, torch.ones(n, dtype=torch.bool)) for name in inputs}
    return Batch(inputs, torch.zeros(n, dtype=torch.int64), torch.full((n,), -1), shown, torch.arange(n))


@pytest.mark.parametrize("n", [1, 7])
def test_both_sides_are_unit_rows_of_one_width(n):
    model = DualEncoder.for_stream(Spec(INPUTS, 10, width=32, vocabulary=20))
    out = model(rows(n))
    assert model.sides == {"image": ("image",), "text": ("text",)} and out.scores.shape == (n, 10)
    for x in out.modalities.values():
        assert x.shape == (n, 32)
        torch.testing.assert_close(x.norm(dim=1), torch.ones(n))
    assert float(model.logit_scale.detach().exp()) == pytest.approx(1 / 0.07)


def test_a_missing_side_is_zero_and_leaves_the_other_as_it_is():
    model = DualEncoder.for_stream(Spec(INPUTS, 10, vocabulary=20))
    batch = rows(6)
    whole = model(batch).modalities
    batch.present["text"] = torch.tensor([True, False] * 3)
    part = model(batch).modalities
    assert not part["text"][1::2].any() and torch.equal(part["image"], whole["image"])
    torch.testing.assert_close(part["text"][::2], whole["text"][::2])
    del batch.inputs["text"], batch.present["text"]
    assert not model(batch).modalities["text"].any()


def test_four_sensors_make_two_sides():
    inputs = {name: torch.zeros(1, 3, 16) for name in "abcd"}
    model = DualEncoder.for_stream(Spec(inputs, 5))
    assert model.sides == {"a + b": ("a", "b"), "c + d": ("c", "d")}
    chosen = DualEncoder(dict(model.encoders), 5, sides={"x": ["a"], "y": ["b", "c", "d"]})
    assert list(chosen.sides) == ["x", "y"]


def test_sides_that_do_not_fit_are_refused():
    with raises_sentence(InputError, "two modalities", "image"):
        DualEncoder.for_stream(Spec({"image": INPUTS["image"]}, 10))
    encoders = dict(DualEncoder.for_stream(Spec(INPUTS, 10, vocabulary=20)).encoders)
    for sides in ({"x": ["image"]}, {"x": ["image", "text"], "y": []}, {"x": ["image"], "y": ["image", "text"]}):
        with raises_sentence(InputError, "two sides", "image", "text"):
            DualEncoder(encoders, 10, sides=sides)
    batch = rows()
    batch.inputs["sound"] = batch.inputs.pop("text")
    with raises_sentence(InputError, "sound"):
        DualEncoder.for_stream(Spec(INPUTS, 10, vocabulary=20))(batch)
