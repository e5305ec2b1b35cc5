"""CLIP models by name and from local files: open_clip's own weights, and sentences for everything else."""

import json
import pickle
import socket

import pytest
import torch
from safetensors.torch import save_file

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models import clip_load
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.clip_load import CONFIG, WEIGHTS, load_clip
from pyfast_mmcl.models.open_clip_import import load_open_clip
from pyfast_mmcl.models.tiny_clip import tiny_clip_config
from tests.check import assert_same_bits, raises_sentence

CONFIGURATION = tiny_clip_config(
    image_size=16, patch_size=8, width=32, layers=1, text_width=32, text_layers=1, embed_dim=24, context_length=16
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        pytest.fail("something was to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def named(tmp_path, monkeypatch):
    """A small architecture that open_clip knows by name."""
    open_clip = load_open_clip()
    known = {"small-test": CONFIGURATION, "small-custom": {**CONFIGURATION, "custom_text": True}}
    monkeypatch.setattr(open_clip, "list_models", lambda: ["ViT-B-16", *known])
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(known[name])))
    return "small-test"


@pytest.fixture
def weights(tmp_path):
    model = load_open_clip().model.CLIP(**CONFIGURATION)
    save_file({name: x.contiguous() for name, x in model.state_dict().items()}, tmp_path / "model.safetensors")
    return model, tmp_path / "model.safetensors"


def same(a, b):
    for name, x in a.state_dict().items():
        assert_same_bits(x, b.state_dict()[name])


def test_a_name_and_a_file_give_the_weights_of_the_file(named, weights):
    model = load_clip(named, weights[1])
    same(model, weights[0])
    assert not model.training and type(model).__name__ == "CLIP"
    # Weights of one class fit the other: open_clip converts the names.
    custom = load_clip("small-custom", weights[1])
    assert type(custom).__name__ == "CustomTextCLIP"
    x = torch.randint(1, 49407, (3, 16))
    with torch.no_grad():
        assert_same_bits(custom.encode_text(x), model.encode_text(x))
    assert ClipModel.with_classes(custom, ["a", "b"]).class_features().shape == (2, 24)


def test_a_folder_as_open_clip_publishes_it_needs_no_name(weights, tmp_path):
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": CONFIGURATION, "preprocess_cfg": preprocess}))
    model = load_clip(weights=tmp_path)
    same(model, weights[0])
    assert ClipModel(model).prepare.mean.flatten().tolist() == [0.5] * 3
    weights[1].rename(tmp_path / WEIGHTS)
    (tmp_path / "other.safetensors").write_bytes(b"")
    same(load_clip(weights=tmp_path), weights[0])


def test_tiny_is_the_one_in_the_users_cache(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with raises_sentence(InputError, "pretrain_tiny_clip", "tiny_clip"):
        load_clip("tiny")
    folder = clip_load.tiny_clip_folder()
    folder.mkdir(parents=True)
    weights[1].rename(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": CONFIGURATION}))
    same(load_clip("tiny"), weights[0])
    same(load_clip("tiny", folder), weights[0])


def test_without_weights_the_seed_decides_and_global_state_is_left_alone(named):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same_seed, other = (load_clip(named, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    same(one, same_seed)
    assert not torch.equal(one.visual.proj, other.visual.proj)


class Explodes:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


@pytest.mark.parametrize("name", ["model.pt", "model.bin", "model.safetensors", "model.weights"])
def test_a_pickle_is_never_read(named, tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Explodes()))
    with raises_sentence(InputError, name):
        load_clip(named, path)


def test_foreign_damaged_and_missing_weights_are_sentences(named, weights, tmp_path):
    state = {name: x.contiguous() for name, x in weights[0].state_dict().items()}
    foreign = tmp_path / "foreign.safetensors"
    save_file({name: x for name, x in state.items() if name != "visual.proj"}, foreign)
    with raises_sentence(InputError, "foreign.safetensors", named, "visual.proj"):
        load_clip(named, foreign)
    save_file({**state, "visual.proj": torch.zeros(3, 3)}, foreign)
    with raises_sentence(InputError, "foreign.safetensors", "visual.proj"):
        load_clip(named, foreign)
    # open_clip asserts that the positions of texts have its width, before torch compares any shape.
    save_file({**state, "positional_embedding": torch.zeros(16, 48)}, foreign)
    with raises_sentence(InputError, "foreign.safetensors", named):
        load_clip(named, foreign)
    save_file({"a": torch.zeros(2)}, foreign)
    with raises_sentence(InputError, "foreign.safetensors"):
        load_clip(named, foreign)
    foreign.write_bytes(weights[1].read_bytes()[:1000])
    with raises_sentence(InputError, "foreign.safetensors", "safetensors file"):
        load_clip(named, foreign)
    with raises_sentence(InputError, "nowhere"):
        load_clip(named, tmp_path / "nowhere")
    with raises_sentence(InputError, "2 such files"):
        load_clip(named, tmp_path)
    with raises_sentence(InputError, "name", CONFIG):
        load_clip(weights=weights[1])
    for text in ("{", '{"a": 1}', '{"model_cfg": 3}', '{"model_cfg": {"nonsense": 3}}'):
        (tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / "a.safetensors").write_bytes(weights[1].read_bytes())
        (tmp_path / "one" / CONFIG).write_text(text)
        with raises_sentence(InputError, "one"):
            load_clip(weights=tmp_path / "one")


def test_unknown_names_and_towers_of_other_libraries(named):
    with pytest.raises(UnknownNameError, match="ViT-B-16"):
        load_clip("ViT-B-17")


def test_a_text_tower_that_would_be_downloaded_is_refused():
    with raises_sentence(InputError, "roberta-ViT-B-32", "ViT-B-16"):
        load_clip("roberta-ViT-B-32")
