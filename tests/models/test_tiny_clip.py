"""The small CLIP is open_clip's own class, is made without a download and without touching global state."""

import socket

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models.tiny_clip import clip_tokenizer, tiny_clip
from tests.check import assert_same_bits, raises_sentence

TEXTS = ["grinning face", "flag: São Tomé & Príncipe", "", "a " * 40]


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        pytest.fail("something was to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_it_is_open_clips_class_and_a_few_million_parameters(no_network):
    model = tiny_clip()
    assert f"{type(model).__module__}.{type(model).__name__}" == "open_clip.model.CLIP"
    assert 7.5e6 < sum(p.numel() for p in model.parameters()) < 7.7e6
    images, tokens = torch.randn(3, 3, 48, 48), clip_tokenizer()(TEXTS[:3])
    with torch.no_grad():
        a, b = model.encode_image(images, normalize=True), model.encode_text(tokens, normalize=True)
    assert a.shape == b.shape == (3, 128)
    torch.testing.assert_close(a.norm(dim=1), torch.ones(3))
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)


def test_seed_decides_the_weights_and_global_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (tiny_clip(seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["visual.proj"], other["visual.proj"])


def test_rows_do_not_see_each_other():
    model, images, tokens = tiny_clip(seed=1).eval(), torch.randn(4, 3, 48, 48), clip_tokenizer()(TEXTS)
    with torch.no_grad():
        for encode, rows in ((model.encode_image, images), (model.encode_text, tokens)):
            changed = torch.cat([rows[:1], rows[1:].flip(0)])
            assert_same_bits(encode(rows)[0], encode(changed)[0])


def test_other_sizes():
    model = tiny_clip(
        image_size=32, patch_size=8, width=64, layers=1, text_width=32, text_layers=1, embed_dim=16, context_length=9
    )
    with torch.no_grad():
        assert model.encode_image(torch.randn(2, 3, 32, 32)).shape == (2, 16)
        assert model.encode_text(clip_tokenizer(9)(TEXTS)).shape == (4, 16)


def test_tokens_start_and_end_are_marked_and_long_texts_are_cut():
    tokens = clip_tokenizer(7)(TEXTS)
    start, end = 49406, 49407
    assert tokens.shape == (4, 7) and tokens.dtype == torch.int64
    assert (tokens[:, 0] == start).all() and (tokens == end).sum(1).tolist() == [1, 1, 1, 1]
    assert tokens[2].tolist() == [start, end, 0, 0, 0, 0, 0] and tokens[3, -1] == end


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"patch_size": 7}, ("patch_size", "48", "7")),
        ({"width": 100}, ("width", "32", "100")),
        ({"text_width": 0}, ("text_width", "0")),
        ({"layers": 1.5}, ("layers", "1.5")),
        ({"context_length": 2}, ("context_length", "3")),
        ({"seed": "a"}, ("seed", "'a'")),
    ],
)
def test_errors_are_sentences(sizes, words):
    with raises_sentence(InputError, *words):
        tiny_clip(**sizes)
    if "context_length" in sizes:
        with raises_sentence(InputError, *words):
            clip_tokenizer(**sizes)
