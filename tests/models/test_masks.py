"""Masks of tasks are the formulas of hard attention, restated in float64 unit by unit."""

import copy
import math

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models import MaskedClassifier, MultimodalClassifier, Spec
from pyfast_mmcl.models.masks import check_masked
from tests.check import assert_same_bits, raises_sentence
from tests.models.task_rows import TASK_CLASSES, WIDTHS, encoders, rows

S_MAX = 7.0  # soft masks, so that every factor of a formula shows


@pytest.fixture
def model():
    made = MaskedClassifier(encoders(), TASK_CLASSES, **WIDTHS).double()
    made.start_task(1, S_MAX)
    return made


def mask(gate, task, scale=S_MAX):
    return torch.sigmoid(scale * gate.embeddings[task].detach())


def restated(model, batch, i, scale=S_MAX):
    """Scores of row i, layer by layer."""
    t, parts, flags = int(batch.task[i]), [], []
    for name in ("a", "b", "t"):
        h = batch.inputs[name][i : i + 1]
        for block, gate in zip(model.encoders[name], model.gates[name], strict=True):
            h = block.layer(block.before(h))
            a = mask(gate, t, scale)
            h = block.after(h * (a.reshape(1, -1, 1, 1) if h.ndim == 4 else a))
        here = float(batch.present[name][i])
        parts.append(here * h[0])
        flags.append(torch.tensor([here], dtype=torch.float64))
    features = torch.relu(model.fusion(torch.cat([*parts, *flags])) * mask(model.fusion_gate, t, scale))
    scores = torch.full((6,), torch.finfo(torch.float64).min, dtype=torch.float64)
    scores[TASK_CLASSES[t]] = model.heads[t](features)
    return scores


@torch.no_grad()
def test_every_layer_is_multiplied_by_the_mask_of_the_row_s_task(model):
    batch = rows()
    assert len(set(batch.task.tolist())) == 3
    out = model.eval()(batch)
    for i in range(len(batch)):
        torch.testing.assert_close(out.scores[i], restated(model, batch, i), rtol=1e-12, atol=1e-12)
    assert out.features.shape == (11, 6) and set(out.modalities) == {"a", "b", "t"}


@torch.no_grad()
@pytest.mark.parametrize(
    ("progress", "scale"), [(0.0, 1 / S_MAX), (1.0, S_MAX), (0.25, 1 / S_MAX + (S_MAX - 1 / S_MAX) / 4)]
)
def test_training_anneals_and_testing_does_not(model, progress, scale):
    batch = rows(4)
    model.anneal(progress)
    torch.testing.assert_close(model.train()(batch).scores[2], restated(model, batch, 2, scale), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(model.eval()(batch).scores[2], restated(model, batch, 2), rtol=1e-12, atol=1e-12)


def closed(model, *tasks):
    for task in tasks:
        model.close_task(task)
    return model


def test_held_units_are_the_maximum_of_the_tasks_closed(model):
    closed(model, 0, 2)
    for gate in model.all_gates():
        expected = torch.maximum(mask(gate, 0), mask(gate, 2))
        torch.testing.assert_close(gate.cumulative, expected, rtol=1e-12, atol=0)


def test_the_regulariser_is_the_share_of_free_units_taken(model):
    model.anneal(0.5)
    scale = 1 / S_MAX + (S_MAX - 1 / S_MAX) / 2
    gates = model.all_gates()
    assert len(gates) == 7
    mean = torch.cat([mask(gate, 1, scale) for gate in gates]).mean()
    torch.testing.assert_close(model.usage(1), mean, rtol=1e-7, atol=0, check_dtype=False)
    closed(model, 0)
    taken = sum(float((mask(g, 1, scale) * (1 - mask(g, 0))).sum()) for g in gates)
    free = sum(float((1 - mask(g, 0)).sum()) for g in gates)
    assert math.isclose(float(model.usage(1).detach()), taken / free, rel_tol=1e-7)
    for gate in gates:
        gate.cumulative.fill_(1.0)
    assert float(model.usage(1).detach()) == 0.0


def held(model):
    """{parameter: a^{<t} of every entry}, min of out and in, written out entry by entry."""
    found = {}

    def pair(out, inputs):
        return torch.tensor([[min(float(o), float(i)) for i in inputs] for o in out], dtype=torch.float64)

    one = torch.ones(100, dtype=torch.float64)
    a, b, t = (list(model.encoders[name]) for name in "abt")
    gates = {name: [gate.cumulative for gate in model.gates[name]] for name in "abt"}
    found[a[0].layer.weight] = pair(gates["a"][0], one[:5])
    found[a[1].layer.weight] = pair(gates["a"][1], gates["a"][0])
    found[b[0].layer.weight] = pair(gates["b"][0], one[:1]).reshape(3, 1, 1, 1).expand(3, 1, 3, 3)
    # Input j of the layer behind Flatten is a place of channel j // 4.
    found[b[1].layer.weight] = pair(gates["b"][1], [gates["b"][0][j // 4] for j in range(12)])
    found[t[0].layer.weight] = gates["t"][0].expand(9, 4)
    found[t[1].layer.weight] = pair(gates["t"][1], gates["t"][0])
    last = torch.cat([gates[name][-1] for name in "abt"])
    found[model.fusion.weight] = pair(model.fusion_gate.cumulative, [*last, *one[:3]])
    for layer, gate in ((a[0], 0), (a[1], 1)):
        found[layer.layer.bias] = gates["a"][gate]
    found[b[0].layer.bias], found[b[1].layer.bias] = gates["b"]
    found[t[1].layer.bias] = gates["t"][1]
    found[model.fusion.bias] = model.fusion_gate.cumulative
    return found


def free(model):
    return [p for p in model.parameters() if p.requires_grad]


def with_grads(model, task=1):
    """The model with the gradient of its loss on a few rows."""
    batch = rows(8, task)
    model.anneal(0.3)
    loss = nn.functional.cross_entropy(model.train()(batch).scores, batch.target) + model.usage(task)
    for p, grad in zip(free(model), torch.autograd.grad(loss, free(model)), strict=True):
        p.grad = grad
    return model


def test_gradients_are_scaled_by_what_is_left(model):
    with_grads(closed(model, 0))
    before = {p: p.grad.clone() for p in free(model) if p.grad is not None}
    model.edit_grads(1)
    expected = held(model)
    assert len(expected) == 13
    for p, kept in expected.items():
        assert before[p].abs().max() > 0
        torch.testing.assert_close(p.grad, before[p] * (1 - kept), rtol=1e-12, atol=1e-300)
    for p in model.heads[1].parameters():
        assert_same_bits(p.grad, before[p])


def test_an_encoder_may_end_in_places_side_by_side():
    chain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = MaskedClassifier({"b": chain}, TASK_CLASSES, embedding=8, features=3)
    last = model.gates["b"][-1].cumulative.copy_(torch.tensor([0.25, 1.0]))
    model.fusion_gate.cumulative.copy_(torch.tensor([0.5, 0.75, 1.0]))
    left = {id(weight): factor for weight, factor in model.left_over()}[id(model.fusion.weight)]
    assert left.shape == model.fusion.weight.shape
    for i, out in enumerate((0.5, 0.75, 1.0)):
        for j in range(8):
            assert float(left[i, j]) == 1 - min(out, float(last[j // 4]))
        assert float(left[i, 8]) == 1 - out


def test_the_gradient_of_embeddings_is_compensated(model):
    with torch.no_grad():
        model.fusion_gate.embeddings[1][:3] = torch.tensor([5.9, -5.9, 0.0], dtype=torch.float64)
    with_grads(model)
    before = {gate: gate.embeddings[1].grad.clone() for gate in model.all_gates()}
    model.edit_grads(1)
    s = 1 / S_MAX + (S_MAX - 1 / S_MAX) * 0.3
    for gate, grad in before.items():
        for e, old, new in zip(
            gate.embeddings[1].tolist(), grad.tolist(), gate.embeddings[1].grad.tolist(), strict=True
        ):
            factor = S_MAX / s * (math.cosh(max(-50, min(50, s * e))) + 1) / (math.cosh(e) + 1)
            assert math.isclose(new, factor * old, rel_tol=1e-6, abs_tol=1e-300)


def test_the_exponent_is_cut_where_cosh_would_overflow(model):
    model.start_task(1, 400.0)
    with torch.no_grad():
        model.fusion_gate.embeddings[1].fill_(6.0)
    with_grads(model)
    model.anneal(1.0)
    model.edit_grads(1)
    assert all(gate.embeddings[1].grad.isfinite().all() for gate in model.all_gates())


def test_what_is_held_wholly_is_put_back_and_embeddings_stay_within_six(model):
    closed(model, 0)
    gate = model.gates["a"][0]
    gate.cumulative.copy_(torch.tensor([1.0, 0.5, 0, 1, 0, 0, 0], dtype=torch.float64))
    with_grads(model)
    model.edit_grads(1)
    weight, start = model.encoders["a"][0].layer.weight, model.encoders["a"][0].layer.weight.detach().clone()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.9)
        gate.embeddings[1].fill_(9.0)
        gate.embeddings[0].fill_(9.0)
    model.hold(1)
    assert_same_bits(weight[[0, 3]], start[[0, 3]])
    assert_same_bits(weight[[1, 2, 4]], start[[1, 2, 4]] * 0.9)
    assert gate.embeddings[1].max() == 6.0 and gate.embeddings[0].max() == 9.0


def test_a_task_trains_its_own_embeddings_and_head(model):
    model.start_task(2, 400.0)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = {f"heads.{t}.{kind}" for t in (0, 1) for kind in ("weight", "bias")}
    expected |= {name for name, _ in model.named_parameters() if "embeddings.0" in name or "embeddings.1" in name}
    assert frozen == expected and float(model.steepest) == 400.0


def test_the_state_brings_back_what_is_held(model):
    closed(model, 0)
    other = MaskedClassifier(encoders(), TASK_CLASSES, **WIDTHS).double()
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    batch = rows()
    assert_same_bits(other.eval()(batch).scores, model.eval()(batch).scores)
    for a, b in zip(other.all_gates(), model.all_gates(), strict=True):
        assert_same_bits(a.cumulative, b.cumulative)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_near_float64(model, dtype):
    batch, half = rows(), copy.deepcopy(model).to(dtype).eval()
    out, truth = half(batch).scores, model.eval()(batch).scores
    own = truth > -1e30
    assert out.dtype == dtype and torch.equal(out.float() > -6e4, own)
    torch.testing.assert_close(out[own].double(), truth[own], rtol=0.1, atol=0.05)
    half.start_task(1, 400.0)
    half.anneal(0.5)
    half.close_task(1)
    assert half.usage(1).isfinite() and all(gate.cumulative.dtype == dtype for gate in half.all_gates())


def test_mistakes_are_named(model):
    with raises_sentence(InputError, "task id", "til"):
        MaskedClassifier(encoders(), None)
    with raises_sentence(InputError, "task id", "til"):
        MaskedClassifier.for_stream(Spec({"a": torch.rand(1, 5)}, 4))
    batch = rows()
    batch.task[3] = -1
    with raises_sentence(InputError, "task id", "-1"):
        model(batch)
    batch = rows()
    batch.inputs["c"], batch.present["c"] = batch.inputs["a"], batch.present["a"]
    with raises_sentence(InputError, "'c'"):
        model(batch)
    with raises_sentence(InputError, "hat", "MultimodalClassifier"):
        check_masked("hat", MultimodalClassifier({"a": nn.Linear(5, 64)}, 4))
