"""Generators, encoders and critics: shapes of all kinds, rows apart from each other, slopes of slopes."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses.adversarial import gradient_penalty
from pyfast_mmcl.models.adversarial import Generator, reader
from tests.check import raises_sentence

SHAPES = [(7,), (1, 8, 8), (3, 4, 4), (1, 12, 9), (2, 13, 7)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(shape):
    z = torch.randn(6, 5)
    made = Generator(5, shape, (8, 16), 4)(z)
    assert made.shape == (6, *shape) and (len(shape) == 1 or (made.min() >= 0 and made.max() <= 1))
    assert reader(shape, 3, (8, 16), 4)(made).shape == (6, 3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_readers_answer_row_by_row_and_have_slopes_of_slopes(shape):
    critic = reader(shape, 1, (8,), 4).double()
    x = torch.randn(5, *shape, dtype=torch.float64)
    together = critic(x)
    for i in range(5):
        torch.testing.assert_close(critic(x[i : i + 1]), together[i : i + 1])
    gradient_penalty(lambda r: critic(r).flatten(), x, x + 1, torch.rand(5).double()).backward()
    assert critic[0].weight.grad.isfinite().all() and critic[0].weight.grad.any()


def test_mirrored_widths():
    sizes = [tuple(w.shape) for w in Generator(5, (7,), (8, 16), 4).parameters() if w.ndim == 2]
    assert sizes == [(16, 5), (8, 16), (7, 8)]
    assert [tuple(w.shape) for w in reader((7,), 3, (), 4).parameters()] == [(3, 7), (3,)]


def test_tiny_images_are_refused():
    for make in (lambda: reader((1, 3, 8), 2, (), 4), lambda: Generator(5, (1, 8, 3), (), 4)):
        with raises_sentence(InputError, "4 pixels", "got 3"):
            make()
