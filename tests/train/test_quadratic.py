"""The anchored quadratic is its formula, follows the model and comes back from a checkpoint."""

import numpy as np
import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.train.checkpoint import load_checkpoint, save_checkpoint
from pyfast_mmcl.train.quadratic import Quadratic, grown, penalty_strength
from tests.check import assert_same_bits, raises_sentence


def model_and_weight(dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    model = nn.Linear(17, 9).to(dtype)
    return model, {n: torch.rand(p.shape, generator=g).double() for n, p in model.named_parameters()}


def move(model, by=0.1):
    before = {n: p.detach().double().clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        for p in model.parameters():
            p += by * torch.randn(p.shape).to(p.dtype)
    return before


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_penalty_and_gradient_are_the_formula(dtype):
    model, weight = model_and_weight(dtype)
    kept = Quadratic()
    assert kept.penalty(model, 1.0) is None and kept.gradient(model, 1.0) == {}
    kept.add(model, weight)
    anchor = move(model)
    truth = {n: p.detach().double().requires_grad_(True) for n, p in model.named_parameters()}
    value = 3.0 * sum((weight[n] * (p - anchor[n]).square()).sum() for n, p in truth.items())
    grads = torch.autograd.grad(value, list(truth.values()))
    ours = kept.penalty(model, 3.0)
    torch.testing.assert_close(ours.double(), value, rtol=1e-5, atol=0)
    for p, expected, plain in zip(
        torch.autograd.grad(ours, list(model.parameters())), grads, kept.gradient(model, 3.0).values(), strict=True
    ):
        tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(p.double(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(plain.double(), expected, rtol=1e-5, atol=1e-5)


def test_adding_decays_what_was_there_and_moves_the_anchor():
    model, weight = model_and_weight()
    kept = Quadratic()
    kept.add(model, weight)
    move(model)
    kept.add(model, {"bias": torch.ones(9)}, decay=0.5)
    torch.testing.assert_close(kept.weight["weight"], 0.5 * weight["weight"])
    torch.testing.assert_close(kept.weight["bias"].double(), 0.5 * weight["bias"] + 1)
    assert_same_bits(kept.anchor["weight"], model.weight)
    assert kept.penalty(model, 1.0).item() == 0.0


def test_the_anchor_does_not_move_with_the_model():
    model, weight = model_and_weight()
    kept = Quadratic()
    kept.add(model, weight)
    kept.weight["bias"] += 1
    assert not torch.equal(kept.weight["bias"], weight["bias"])
    move(model)
    assert not torch.equal(kept.anchor["bias"], model.bias)


def test_folding_keeps_value_and_gradient_of_the_sum():
    model, _ = model_and_weight(torch.float64)
    folded, apart = Quadratic(), []
    for seed in range(6):
        weight = model_and_weight(seed=seed)[1]
        weight["weight"][:, seed::3] = 0
        apart.append(Quadratic())
        for kept in (folded, apart[-1]):
            kept.fold(model, weight)
        move(model, 1.0)
    values = [folded.penalty(model, 0.5), sum(kept.penalty(model, 0.5) for kept in apart)]
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=0)
    grads = [torch.autograd.grad(value, list(model.parameters())) for value in values]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_grown_parameters_keep_the_leading_corner():
    old = torch.arange(6.0).reshape(2, 3)
    new = grown("w", old, torch.empty(4, 5))
    assert torch.equal(new[:2, :3], old) and int(new.count_nonzero()) == 5
    assert grown("w", old, torch.empty(2, 3)) is old
    for shape in ((1, 3), (2, 2), (2, 3, 1), ()):
        with raises_sentence(InputError, "'w'", "(2, 3)", "grow"):
            grown("w", old, torch.empty(shape))


def test_what_the_model_no_longer_has_is_left_out():
    model, weight = model_and_weight()
    kept = Quadratic()
    kept.add(model, weight)
    move(model)
    bare = nn.Linear(17, 9, bias=False)
    bare.weight = model.weight
    expected = (weight["weight"] * (model.weight.double() - kept.anchor["weight"].double()).square()).sum()
    torch.testing.assert_close(kept.penalty(bare, 1.0).double(), expected, rtol=1e-5, atol=0)


def test_a_checkpoint_brings_it_back(tmp_path):
    model, weight = model_and_weight()
    kept, other = Quadratic(), Quadratic()
    for _ in range(2):
        kept.fold(model, weight)
        move(model)
    assert kept.constant > 0
    save_checkpoint(tmp_path, {"part": kept.state_dict()})
    other.load_state_dict(load_checkpoint(tmp_path)["part"])
    assert_same_bits(kept.penalty(model, 2.0), other.penalty(model, 2.0))
    assert kept.constant == other.constant


def test_a_parameter_that_comes_back_is_free():
    model, weight = model_and_weight()
    kept = Quadratic()
    kept.anchor_here(model, {**weight, "gone": torch.ones(3)})
    assert kept.weight.keys() == kept.anchor.keys() == {"weight", "bias"}
    model.register_parameter("gone", nn.Parameter(torch.ones(3)))
    assert kept.penalty(model, 1.0).item() == 0.0


def test_a_strength_of_zero_is_no_term():
    model, weight = model_and_weight()
    kept = Quadratic()
    kept.add(model, weight)
    assert kept.penalty(model, 0.0) is None and not kept.gradient(model, 0.0)["bias"].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"memory": 1},
        [],
        {"weight": {}, "anchor": {}},
        {"weight": {"w": torch.ones(2)}, "anchor": {}, "constant": 0.0},
        {"weight": {"w": torch.ones(2)}, "anchor": {"w": torch.ones(3)}, "constant": 0.0},
    ],
)
def test_a_foreign_state_is_refused(wrong):
    with raises_sentence(CheckpointError, "checkpoint of this method"):
        Quadratic().load_state_dict(wrong)


def test_strengths_are_numbers_from_zero_of_any_kind():
    values = (2, 2.0, np.float32(2), np.int64(2), np.array(2.0), torch.tensor(2.0), torch.tensor(2))
    assert [penalty_strength("lam", value) for value in values] == [2.0] * len(values)
    assert penalty_strength("lam", 0) == 0.0
    wrong = (-1, float("nan"), float("inf"), True, "2", None, [2.0], torch.ones(1), torch.tensor(True), 2j)
    for value in (*wrong, torch.tensor(float("nan")), torch.tensor(2.0, requires_grad=True)):
        with raises_sentence(InputError, "lam: expected a finite number of at least 0"):
            penalty_strength("lam", value)
