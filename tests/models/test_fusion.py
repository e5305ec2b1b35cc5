"""Every way of fusing modalities: its formula in float64, row by row, and what must hold of all of them."""

import copy

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.models import MultimodalClassifier
from pyfast_mmcl.models.encoders import encoders_for
from pyfast_mmcl.models.fusion import FUSIONS, fusion_for
from pyfast_mmcl.train import run_continual
from pyfast_mmcl.train.run import stream_spec
from tests.check import raises_sentence

NAMES, D, WIDTH = ("a", "b", "c"), 8, 5
every_fusion = pytest.mark.parametrize("kind", FUSIONS)


def rows(n=17, names=NAMES, dtype=torch.float64, keep=0.6):
    embeddings = {m: torch.randn(n, D, dtype=dtype) for m in names}
    present = {m: torch.rand(n) < keep for m in names}
    for m in names:
        present[m][0], present[m][1] = True, False
    return embeddings, present


def made(kind, names=NAMES):
    return fusion_for(kind, names, D, WIDTH).double()


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def affine(layer, x):
    return layer.weight @ x + layer.bias


def shown_and_flags(e, p):
    flags = torch.tensor([float(p[m]) for m in NAMES]).double()
    return torch.cat([*(e[m] if p[m] else torch.zeros(D).double() for m in NAMES), flags])


def concat(f, e, p):
    x = shown_and_flags(e, p)
    return affine(f.linear, x).clamp(min=0)


def gated(f, e, p):
    shown = [m for m in NAMES if p[m]]
    x = shown_and_flags(e, p)
    gates = dict(zip(NAMES, affine(f.gate, x).split(WIDTH), strict=True))
    total = sum((gates[m].exp() for m in shown), torch.zeros(WIDTH).double())
    terms = (gates[m].exp() / total * affine(f.values[m], e[m]).tanh() for m in shown)
    return sum(terms, torch.zeros(WIDTH).double())


def confidence(f, e, p):
    shown = [m for m in NAMES if p[m]]
    c = {m: sigmoid(affine(f.confidence[m], e[m])) for m in shown}
    terms = (c[m] / sum(c.values()) * affine(f.values[m], e[m]) for m in shown)
    return sum(terms, torch.zeros(WIDTH).double()).clamp(min=0)


def attention(f, e, p):
    block, heads = f.attention, 4
    memory = torch.stack([f.token, *(e[m] + f.kinds[i] for i, m in enumerate(NAMES) if p[m])])
    query = affine(block.query, block.norm_x(f.token))
    key_value = torch.stack([affine(block.key_value, block.norm_memory(row)) for row in memory])
    seen = []
    for h in range(heads):
        part = slice(h * D // heads, (h + 1) * D // heads)
        key, value = key_value[:, :D][:, part], key_value[:, D:][:, part]
        weights = (key @ query[part] / (D / heads) ** 0.5).exp()
        seen.append((weights / weights.sum()) @ value)
    x = f.token + affine(block.out, torch.cat(seen))
    return affine(f.linear, f.norm(x + block.mlp(block.norm_mlp(x))))


@every_fusion
def test_fusion_is_its_formula(kind):
    fusion, (embeddings, present) = made(kind), rows()
    whole = fusion(embeddings, present)
    for i in range(17):
        e, p = {m: x[i] for m, x in embeddings.items()}, {m: bool(flag[i]) for m, flag in present.items()}
        torch.testing.assert_close(whole[i], globals()[kind](fusion, e, p), rtol=1e-10, atol=1e-12)


@every_fusion
@pytest.mark.parametrize("size", [0, 1, 16, 33])
def test_rows_do_not_meet(kind, size):
    fusion, (embeddings, present) = made(kind), rows(max(size, 2))
    whole, order = fusion(embeddings, present), torch.randperm(max(size, 2))[:size]
    again = fusion({m: x[order] for m, x in embeddings.items()}, {m: p[order] for m, p in present.items()})
    assert again.shape == (size, WIDTH)
    torch.testing.assert_close(again, whole[order])


@every_fusion
def test_what_stands_where_a_modality_is_missing_changes_nothing(kind):
    fusion, (embeddings, present) = made(kind), rows()
    before = fusion(embeddings, present)
    for m in NAMES:
        embeddings[m][~present[m]] = torch.tensor([float("inf"), -7.0] * (D // 2)).double()
    after = fusion(embeddings, present)
    assert torch.equal(after, before) and before.isfinite().all()


@every_fusion
def test_a_modality_that_is_left_out_is_one_that_is_missing_everywhere(kind):
    fusion, (embeddings, present) = made(kind), rows()
    present["b"][:] = False
    shown = {m: embeddings[m] for m in ("c", "a")}
    left_out = fusion(shown, {m: present[m] for m in shown})
    torch.testing.assert_close(left_out, fusion(embeddings, present))


@every_fusion
def test_gradients_reach_every_weight_and_only_what_is_present(kind):
    fusion, (embeddings, present) = made(kind), rows()
    for x in embeddings.values():
        x.requires_grad_(True)
    fusion(embeddings, present).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in fusion.parameters())
    for m, x in embeddings.items():
        assert not x.grad[~present[m]].any() and x.grad[present[m]].any(1).any()


@every_fusion
def test_bfloat16_is_near_float64(kind):
    exact, (embeddings, present) = made(kind), rows()
    low = copy.deepcopy(exact).to(torch.bfloat16)
    got = low({m: x.to(torch.bfloat16) for m, x in embeddings.items()}, present)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), exact(embeddings, present), rtol=0.05, atol=0.05)


def test_confidences_of_one_modality_do_not_look_at_the_others_and_sum_to_one():
    fusion, (embeddings, present) = made("confidence"), rows()
    weights = fusion.weights(embeddings, present)
    some = torch.stack([present[m] for m in NAMES], 1)
    torch.testing.assert_close(weights.sum(1), some.any(1).double())
    assert not weights[~some].any()
    ratio = weights[0, 0] / weights[0, 1]
    embeddings["c"] += 3
    changed = fusion.weights(embeddings, present)
    torch.testing.assert_close(changed[0, 0] / changed[0, 1], ratio)
    for layer in fusion.confidence.values():
        layer.bias.data.fill_(-2000.0)  # every sigmoid underflows
    assert fusion.weights(embeddings, present)[0].sum().item() == pytest.approx(1)


def test_two_gates_are_a_sigmoid_and_its_complement():
    fusion, (embeddings, present) = made("gated", ("a", "b")), rows(5, ("a", "b"), keep=2)
    present["b"][1] = present["a"][1] = True
    flags = torch.ones(5, 2).double()
    gates = fusion.gate(torch.cat([embeddings["a"], embeddings["b"], flags], 1)).split(WIDTH, 1)
    z = torch.sigmoid(gates[0] - gates[1])
    expected = z * fusion.values["a"](embeddings["a"]).tanh() + (1 - z) * fusion.values["b"](embeddings["b"]).tanh()
    torch.testing.assert_close(fusion(embeddings, present), expected)


@every_fusion
def test_a_classifier_learns_digits_with_it(kind):
    stream = digits_stream("cil", 1, missing={"image": 0.2, "text": 0.2}, test=0.7)
    model = MultimodalClassifier(encoders_for(stream_spec(stream)), 10, fusion=kind)
    history = run_continual("finetune", stream, model=model, epochs=4, lr=0.01, device="cpu", progress=False)
    assert history.accuracy[0][0] > 0.6


def test_what_does_not_fit_is_refused():
    fusion, (embeddings, present) = made("gated"), rows()
    with raises_sentence(UnknownNameError, "fusion", "gated"):
        fusion_for("gatted", NAMES, D, WIDTH)
    with raises_sentence(InputError, "smell"):
        fusion({"smell": embeddings["a"]}, {"smell": present["a"]})
    with raises_sentence(InputError, "(17, 8)", "'b'"):
        fusion({**embeddings, "b": embeddings["b"][:, :3]}, present)
    with raises_sentence(InputError, "modalities"):
        fusion({}, {})
    with raises_sentence(InputError, "multiple of 4"):
        fusion_for("attention", NAMES, 6, WIDTH)
    with raises_sentence(InputError, "different modalities"):
        fusion_for("concat", ("a", "a"), D, WIDTH)
