"""Checkpoints: tensors in one safetensors file, everything else in one JSON file that names it.

The JSON file is the commit point. It is replaced atomically after the tensors are safely on the disk under a name of
their own, so that a crash at any moment leaves a complete checkpoint: the old one or the new one.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pyfast_mmcl import __version__
from pyfast_mmcl._errors import CheckpointError
from pyfast_mmcl.train.files import replace_file, replace_text

KIND = "pyfast_mmcl checkpoint"
FORMAT = 1
_INDEX = "checkpoint.json"
_TENSORS = "tensors-*.safetensors"
_PENDING = "tensors.pending"
# What earlier saves, finished or killed, may have left behind.
_LEFTOVERS = (_TENSORS, _PENDING, f".{_PENDING}.*.tmp", f".{_INDEX}.*.tmp")


def has_checkpoint(folder: str | Path) -> bool:
    """Whether ``folder`` holds a checkpoint (readable or not)."""
    return (Path(folder) / _INDEX).exists()


def save_checkpoint(folder: str | Path, state: dict[str, Any]) -> None:
    """Write ``state``, nested dicts and lists of tensors, numbers, strings and None, to ``folder`` atomically.

    Raises CheckpointError when the folder cannot be written; an earlier checkpoint in it is then untouched.
    """
    folder = Path(folder)
    tensors: dict[str, Tensor] = {}
    skeleton = _pack(state, tensors)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name, digest = _save_tensors(folder, tensors)
        body = {
            "kind": KIND,
            "format": FORMAT,
            "version": __version__,
            "tensors": {"file": name, "sha256": digest},
            "state": skeleton,
        }
        replace_text(folder / _INDEX, json.dumps({**body, "sha256": _digest_json(body)}, indent=1, allow_nan=False))
        for pattern in _LEFTOVERS:
            for old in folder.glob(pattern):
                if old.name != name:
                    old.unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot write a checkpoint to {folder}: {error}; choose a folder that can be written and has free space."
        ) from error


def load_checkpoint(folder: str | Path) -> dict[str, Any]:
    """The state that ``save_checkpoint`` wrote, with tensors on the CPU.

    Raises CheckpointError when there is none, or when it is damaged, foreign or of another format.
    """
    folder = Path(folder)
    body = _read_index(folder / _INDEX)
    name, digest = body["tensors"]["file"], body["tensors"]["sha256"]
    path = folder / name
    try:
        intact = Path(name).name == name and path.is_file() and _digest_file(path) == digest
        tensors = load_file(path) if intact else {}
    except (OSError, SafetensorError) as error:
        # Another process may put a newer checkpoint in its place at any moment.
        raise CheckpointError(f"{path} cannot be read ({error}); is another run writing to this folder?") from error
    if not intact:
        raise CheckpointError(
            f"checkpoint {folder}: the tensor file {name} is missing or damaged; restore it or start a new run."
        )
    return _unpack(body["state"], tensors)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint in {path.parent}; start the run without resume.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} cannot be read (cut short or not JSON): restore it or start a new run."
        ) from error
    if not isinstance(body, dict) or body.get("kind") != KIND:
        raise CheckpointError(f"{path} is not a checkpoint of pyfast_mmcl; choose the folder of a run.")
    if body.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {body.get('format')} (written by version {body.get('version')}), this is "
            f"version {__version__} and reads format {FORMAT}; use the version that wrote it or start a new run."
        )
    digest = body.pop("sha256", None)
    if digest != _digest_json(body):
        raise CheckpointError(f"checkpoint {path} is damaged (its checksum differs): restore it or start a new run.")
    return body


def _save_tensors(folder: Path, tensors: dict[str, Tensor]) -> tuple[str, str]:
    """Write the tensors under the name of their content; returns name and SHA-256."""
    pending = folder / _PENDING
    replace_file(pending, lambda new: save_file(tensors, new))
    digest = _digest_file(pending)
    name = _TENSORS.replace("*", digest[:16])
    pending.replace(folder / name)
    return name, digest


def _digest_file(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _digest_json(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _pack(value: Any, tensors: dict[str, Tensor], place: str = "state") -> Any:
    """``value`` in JSON, its tensors moved to ``tensors`` under the name of their place."""
    if isinstance(value, Tensor):
        # A copy of its own: safetensors refuses tensors that share memory, and tied weights do.
        while place in tensors:  # {"a.b": x} and {"a": {"b": y}}, or the keys 1 and "1"
            place += "'"
        tensors[place] = value.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": place}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _pack(item, tensors, f"{place}.{key}") for key, item in value.items()}
        return {"$items": [[key, _pack(item, tensors, f"{place}.{key}")] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"$tuple": [_pack(item, tensors, f"{place}.{i}") for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_pack(item, tensors, f"{place}.{i}") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CheckpointError(
        f"cannot store {type(value).__name__} at {place}; use tensors, numbers, strings, lists and dicts."
    )


def _unpack(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return tensors[value["$tensor"]]
    if "$items" in value:
        return {key: _unpack(item, tensors) for key, item in value["$items"]}
    if "$tuple" in value:
        return tuple(_unpack(item, tensors) for item in value["$tuple"])
    if "$float" in value:
        return float(value["$float"])
    return {key: _unpack(item, tensors) for key, item in value.items()}
