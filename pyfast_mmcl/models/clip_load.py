"""CLIP models by name, with weights from a local file: open_clip's own classes, and never a pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.models.open_clip_import import load_open_clip

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
TINY = "tiny"


def tiny_clip_folder() -> Path:
    """Where the pretrained tiny CLIP lies unless told otherwise: a folder of the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "pyfast_mmcl" / "tiny_clip"


def load_clip(name: str | None = None, weights: str | Path | None = None, *, seed: int = 0) -> nn.Module:
    """An open_clip model in evaluation mode: ``load_clip("ViT-B-16", "vit_b_16.safetensors")``.

    name     one of open_clip's architectures; "tiny", the small CLIP that ``benchmarks/methods/pretrain_tiny_clip.py``
             has trained; or None where ``weights`` is a folder with a configuration
    weights  a .safetensors file, or a folder with one and perhaps open_clip_config.json, as open_clip's models are
             published. None: random weights, for "tiny" those in the user's cache
    seed     of random weights; the global random state is left as it was

    Nothing is downloaded and no pickle is read: convert other files once, where they can be trusted. Raises InputError
    for missing, foreign or damaged weights, UnknownNameError for an unknown name, BackendError without open_clip.
    """
    if name == TINY:
        return load_clip(None, tiny_clip_folder() if weights is None else weights, seed=seed)
    file: Path | None = None
    config: dict[str, Any] | None = None
    if weights is not None:
        file, config = _find(Path(weights))
    if config is None and name is not None:
        config = {"model_cfg": _architecture(name)}
    if config is None:
        raise InputError(
            f"clip: expected a name, or weights in a folder with {CONFIG}, got {weights}; name one of open_clip's "
            'models, for example "ViT-B-16".'
        )
    model = _build(name or str(weights), dict(config["model_cfg"]), seed)
    if "preprocess_cfg" in config:
        model.visual.preprocess_cfg = dict(config["preprocess_cfg"])
    if file is not None:
        _load(model, file, name or file.parent.name)
    return model.eval()


def _find(path: Path) -> tuple[Path, dict[str, Any] | None]:
    """The weights at ``path``, a file or a folder, and the configuration beside them in the folder."""
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl") and path.is_file():
        raise InputError(
            f"{path} is a pickle, which can run code when it is read, so it is not; convert it once where you trust "
            "it: save its state_dict with safetensors.torch.save_file and give that .safetensors file."
        )
    if path.is_file():
        return path, None
    if not path.is_dir():
        hint = "; train it with python -m benchmarks.methods.pretrain_tiny_clip" if path == tiny_clip_folder() else ""
        raise InputError(f"weights: {path} does not exist{hint}.")
    named, files = path / WEIGHTS, sorted(path.glob("*.safetensors"))
    if not named.is_file() and len(files) != 1:
        raise InputError(
            f"weights: expected {WEIGHTS} or one .safetensors file in {path}, got {len(files)} such files."
        )
    config = path / CONFIG
    return named if named.is_file() else files[0], _read_config(config) if config.is_file() else None


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {"model_cfg": dict(config["model_cfg"]), "preprocess_cfg": dict(config.get("preprocess_cfg", {}))}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no configuration of an open_clip model ({error!r}); fetch it again.") from error


def _architecture(name: str) -> dict[str, Any]:
    open_clip = load_open_clip()
    known = open_clip.list_models()
    if name not in known:
        raise unknown_name("CLIP model", name, [*known, TINY])
    return open_clip.get_model_config(name)


def _build(name: str, config: dict[str, Any], seed: int) -> nn.Module:
    """The module of a configuration, with random weights; built here, because open_clip's own way may download."""
    parts = load_open_clip().model
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if text.get("hf_model_name") or "multimodal_cfg" in config:
        raise InputError(
            f"clip: {name} has a text tower from another library or a caption decoder; choose a model of two towers "
            'that open_clip builds itself, for example "ViT-B-16".'
        )
    if vision.get("timm_model_name"):
        config["vision_cfg"] = {**vision, "timm_model_pretrained": False}
    made = parts.CustomTextCLIP if config.pop("custom_text", False) else parts.CLIP
    try:
        with torch.random.fork_rng(devices=[]):  # open_clip draws its weights from the global generator
            torch.manual_seed(seed)
            return made(**config)
    except TypeError as error:
        raise InputError(f"clip: the configuration of {name} is not one that open_clip takes ({error}).") from error


def _load(model: nn.Module, file: Path, name: str) -> None:
    if file.suffix != ".safetensors":
        raise InputError(
            f"weights: expected a .safetensors file, got {file}; convert it with safetensors.torch.save_file."
        )
    try:
        load_open_clip().factory.load_checkpoint(model, str(file), strict=True)
    except SafetensorError as error:
        raise InputError(f"{file} is no readable safetensors file ({error}); fetch it again.") from error
    except (RuntimeError, KeyError, AssertionError) as error:  # it asserts widths before it compares shapes
        first = (str(error).strip().splitlines() or [repr(error)])[-1].strip()
        raise InputError(
            f"{file} does not hold the weights of {name}: {first[:200]}; choose the model's own."
        ) from error
