"""Bottleneck adapters and LoRA against their formulas written out."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models.attach import attach
from tests.check import assert_same_bits, raises_sentence
from tests.models.small_clips import KINDS, both, shake, small_clip


@pytest.mark.parametrize(("form", "scale"), [("parallel", 0.1), ("sequential", 1.0)])
def test_a_block_with_a_bottleneck_is_the_papers(form, scale):
    clip = small_clip().double()
    module = attach(clip, "adapters", hidden=9, form=form)
    shake(module)
    block, adapter = clip.visual.transformer.resblocks[2], module["image"][2]
    x = torch.randn(2, 5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        middle = x + block.attention(block.ln_1(x))
        h = block.ln_2(middle)
        mlp = block.mlp.c_proj(torch.nn.functional.gelu(block.mlp.c_fc(h)))
        read = h if form == "parallel" else mlp
        inner = (read @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
        added = scale * (inner @ adapter.up.weight.T + adapter.up.bias)
        torch.testing.assert_close(block(x), middle + mlp + added, rtol=1e-10, atol=1e-10)
    assert adapter.down.weight.shape == (9, 64)


@pytest.mark.parametrize("clip_kind", KINDS)
def test_lora_is_a_product_beside_queries_and_values(clip_kind):
    clip = small_clip(clip_kind).double()
    weight = clip.visual.transformer.resblocks[0].attn.in_proj_weight.detach().clone()
    lora = attach(clip, "lora", rank=3, alpha=6.0)
    shake(lora)
    a, b = lora.parts[0].a.detach(), lora.parts[0].b.detach()
    changed = clip.visual.transformer.resblocks[0].attn.in_proj_weight
    expected = weight.clone()
    expected[:64] += 2 * b[0] @ a[0]
    expected[128:] += 2 * b[1] @ a[1]
    torch.testing.assert_close(changed, expected, rtol=1e-12, atol=1e-12)
    assert a.shape == (2, 3, 64) and torch.equal(changed[64:128], weight[64:128])


@pytest.mark.parametrize("clip_kind", KINDS)
def test_lora_melts_into_a_plain_model(clip_kind):
    clip, plain = small_clip(clip_kind), small_clip(clip_kind)
    places = ("query", "key", "value", "out", "mlp_in", "mlp_out")
    lora = attach(clip, "lora", weights=places)
    assert len(lora.parts) == (3 + 2) * 4
    shake(lora, 0.1)
    before = both(clip)
    lora.merge()
    assert set(clip.state_dict()) == set(plain.state_dict())
    plain.load_state_dict(clip.state_dict())
    for ours, theirs in zip(both(plain), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    lora.merge()
    assert_same_bits(both(clip)[0], both(plain)[0])


def test_every_place_of_lora_changes_the_answers():
    for place in ("query", "key", "value", "out", "mlp_in", "mlp_out"):
        clip = small_clip()
        before = both(clip)
        shake(attach(clip, "lora", weights=(place,)))
        assert all((a - b).abs().max() > 1e-4 for a, b in zip(both(clip), before, strict=True)), place


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownNameError, match="parallel"):
        attach(small_clip(), "adapters", form="paralel")
    with pytest.raises(UnknownNameError, match="query"):
        attach(small_clip(), "lora", weights=("querys",))
    with raises_sentence(InputError, "weights", "none"):
        attach(small_clip(), "lora", weights=())
    with raises_sentence(InputError, "rank", "0"):
        attach(small_clip(), "lora", rank=0)
