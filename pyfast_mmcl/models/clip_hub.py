"""CLIP weights by open_clip's pretrained tags: fetched as safetensors by the Hub's own client, only when asked for."""

from __future__ import annotations

from pathlib import Path

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.models.clip_load import CONFIG, WEIGHTS
from pyfast_mmcl.models.open_clip_import import load_open_clip


def fetch_clip(name: str, tag: str) -> Path:
    """A folder with the weights and the configuration of an open_clip model, for ``models.clip_load.load_clip``.

    What the client's cache holds is not fetched again. Only safetensors are fetched, never a pickle. Raises
    UnknownNameError for a name or tag that open_clip does not list, InputError for weights that are not published as
    safetensors on the Hub or cannot be fetched.
    """
    open_clip = load_open_clip()
    known = open_clip.list_models()
    if name not in known:
        raise unknown_name("CLIP model", name, known)
    tags = open_clip.pretrained.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise unknown_name(f"pretrained tag of {name}", tag, tags)
    place = open_clip.get_pretrained_cfg(name, tag).get("hf_hub", "").rstrip("/")
    if place.count("/") != 1:
        raise InputError(
            f"--pretrained {tag}: open_clip has no safetensors of {name} for it; choose another tag, or convert the "
            "weights once and give the folder with --weights."
        )
    from huggingface_hub import hf_hub_download

    try:
        weights = Path(hf_hub_download(place, WEIGHTS))
        hf_hub_download(place, CONFIG)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--pretrained {tag}: {place} could not be fetched ({str(error).splitlines()[0]}); fetch {WEIGHTS} and "
            f"{CONFIG} where there is a network, and give their folder with --weights."
        ) from error
    return weights.parent
