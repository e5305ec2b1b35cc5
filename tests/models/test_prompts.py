"""Prompts against sequences built by hand, and what a text tower that looks back may see."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models.attach import attach
from pyfast_mmcl.models.prompts_tower import widen_mask
from tests.check import raises_sentence
from tests.models.small_clips import KINDS, images, shake, small_clip, text_home, tokens


def prompted(**config):
    clip = small_clip(config.pop("kind", "CLIP")).double()
    prompts = attach(clip, "prompts", **config)
    prompts.add_way()
    shake(prompts)
    return clip, prompts


def image_by_hand(clip, before_block):
    """The image tower, ``before_block(l, x)`` deciding what enters block l."""
    tower = clip.visual
    x = tower._embeds(images().double())
    for level, block in enumerate(tower.transformer.resblocks):
        x = block(before_block(level, x))
    return tower.ln_post(x)[:, 0] @ tower.proj


def text_by_hand(clip, before_block, mask):
    home, ids = text_home(clip), tokens()
    x = home.token_embedding(ids) + home.positional_embedding
    for level, block in enumerate(home.transformer.resblocks):
        x = block(before_block(level, x), attn_mask=mask)
    added = x.shape[1] - ids.shape[1]
    end = home.ln_final(x)[torch.arange(len(ids)), ids.argmax(1) + added]
    return end @ home.text_projection


def looking_back(size):
    return torch.full((size, size), float("-inf"), dtype=torch.float64).triu(1)


@pytest.mark.parametrize("kind", KINDS)
def test_shallow_prompts_stand_behind_the_first_position(kind):
    clip, prompts = prompted(kind=kind, image=4, text=3)
    p = {name: prompts.sets[0].tokens[name].detach()[0] for name in ("image", "text")}
    assert p["image"].shape == (4, 64) and p["text"].shape == (3, 32)

    def put(name):
        def before(level, x):
            return x if level else torch.cat([x[:, :1], p[name].expand(len(x), -1, -1), x[:, 1:]], 1)

        return before

    with torch.no_grad():
        ours = clip.encode_image(images().double()), clip.encode_text(tokens())
        prompts.switch(-1)
        truth = image_by_hand(clip, put("image")), text_by_hand(clip, put("text"), looking_back(16 + 3))
    for a, b in zip(ours, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("join", ["replace", "accumulate"])
def test_deep_prompts_replace_or_join_the_earlier_ones(join):
    clip, prompts = prompted(image=2, text=0, depth=2, image_join=join)
    p = prompts.sets[0].tokens["image"].detach()
    lengths = []

    def before(level, x):
        if level < 2:
            rest = x[:, 1 + (2 if level and join == "replace" else 0) :]
            x = torch.cat([x[:, :1], p[level].expand(len(x), -1, -1), rest], 1)
        lengths.append(x.shape[1])
        return x

    with torch.no_grad():
        ours = clip.encode_image(images().double())
        prompts.switch(-1)
        torch.testing.assert_close(ours, image_by_hand(clip, before), rtol=1e-9, atol=1e-9)
    assert lengths == ([7, 7, 7] if join == "replace" else [7, 9, 9])


def test_coupled_prompts_of_the_image_are_a_linear_layer_of_the_texts():
    clip, prompts = prompted(image=2, text=2, depth=12, coupled=True, image_join="accumulate")
    one = prompts.sets[0]
    g, linear = one.tokens["text"].detach(), one.coupling
    assert g.shape == (2, 2, 32) and set(one.tokens) == {"text"}
    torch.testing.assert_close(one.of("image"), g @ linear.weight.T + linear.bias)

    def before_image(level, x):
        if level >= 2:
            return x
        return torch.cat([x[:, :1], (g[level] @ linear.weight.T + linear.bias).expand(len(x), -1, -1), x[:, 1:]], 1)

    def before_text(level, x):
        rest = x[:, 3 if level else 1 :]
        return torch.cat([x[:, :1], g[level].expand(len(x), -1, -1), rest], 1)

    with torch.no_grad():
        ours = clip.encode_image(images().double()), clip.encode_text(tokens())
        prompts.switch(-1)
        truth = image_by_hand(clip, before_image), text_by_hand(clip, before_text, looking_back(18))
    for a, b in zip(ours, truth, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_widened_mask_looks_back_and_keeps_what_was_masked():
    mask = torch.full((5, 5), float("-inf")).triu(1)
    assert torch.equal(widen_mask(mask, 3), torch.full((8, 8), float("-inf")).triu(1))
    padded = torch.zeros(2, 5, 5)
    padded[:, :, 4] = float("-inf")
    wide = widen_mask(padded, 2)
    assert wide.shape == (2, 7, 7) and (wide[:, :, 6] == float("-inf")).all()
    assert torch.equal(wide[0, :3, :3], torch.full((3, 3), float("-inf")).triu(1)) and (wide[:, 3:, :6] == 0).all()


def test_earlier_sets_stand_still():
    prompts = prompted(image=2, text=2)[1]
    prompts.add_way()
    assert [p.requires_grad for p in prompts.sets.parameters()] == [False, False, True, True]
    assert not torch.equal(prompts.sets[0].tokens["image"], prompts.sets[1].tokens["image"])


def test_what_does_not_fit_is_refused():
    clip = small_clip()
    with raises_sentence(InputError, "coupled", "2 and 3"):
        attach(clip, "prompts", image=2, text=3, coupled=True)
    with raises_sentence(InputError, "coupled", "0 and 0"):
        attach(clip, "prompts", image=0, text=0, coupled=True)
    with pytest.raises(UnknownNameError, match="accumulate"):
        attach(clip, "prompts", image_join="acumulate")
    text = small_clip()
    module = attach(text, "prompts", depth=2, text_join="accumulate")
    module.add_way()
    with raises_sentence(InputError, "replace", "mask"):
        text.encode_text(tokens())
    shallow = small_clip()
    prompts = attach(shallow, "prompts")
    prompts.add_way()
    with raises_sentence(InputError, "-1"), prompts.rows(torch.tensor([0, 0, -1, 0, 0])):
        shallow.encode_image(images())
    shallow.set_grad_checkpointing(True)
    with raises_sentence(InputError, "checkpointing"):
        shallow.encode_image(images())
