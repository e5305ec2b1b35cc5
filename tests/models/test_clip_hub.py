"""CLIP weights by pretrained tag: what is asked of the Hub's client, and sentences for everything else."""

import json

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models.clip_hub import fetch_clip
from pyfast_mmcl.models.clip_load import CONFIG, WEIGHTS, load_clip
from pyfast_mmcl.models.tiny_clip import tiny_clip, tiny_clip_config
from tests.check import assert_same_bits, raises_sentence

SIZES = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "text_width": 32, "text_layers": 1}
SIZES = {**SIZES, "embed_dim": 16, "context_length": 16}


def test_safetensors_and_configuration_are_fetched_and_nothing_else(tmp_path, monkeypatch):
    clip = tiny_clip(**SIZES)
    save_file({name: x.contiguous() for name, x in clip.state_dict().items()}, tmp_path / WEIGHTS)
    (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": tiny_clip_config(**SIZES)}))
    asked = []

    def download(place, file):
        asked.append((place, file))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    folder = fetch_clip("ViT-B-32", "laion2b_s34b_b79k")
    place = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert asked == [(place, WEIGHTS), (place, CONFIG)] and folder == tmp_path
    assert_same_bits(load_clip("ViT-B-32", folder).visual.proj, clip.visual.proj)


def test_unknown_names_and_tags_are_listed():
    with raises_sentence(UnknownNameError, "ViT-B-33", "ViT-B-32"):
        fetch_clip("ViT-B-33", "openai")
    with raises_sentence(UnknownNameError, "opeani", "openai"):
        fetch_clip("ViT-B-32", "opeani")


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no network\nsecond line"), ConnectionError("no network")])
def test_what_cannot_be_fetched_is_a_sentence(monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    with raises_sentence(InputError, "openai", "no network", "--weights"):
        fetch_clip("ViT-B-32", "openai")


def test_weights_that_are_only_a_pickle_are_refused():
    with raises_sentence(InputError, "yfcc15m", "safetensors", "--weights"):
        fetch_clip("RN101", "yfcc15m")
