"""open_clip and torchvision, imported on first use, also where torchvision's compiled ops do not fit this torch."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from pyfast_mmcl._errors import BackendError

# torchvision registers shape rules for these two ops whether or not its compiled part could be loaded.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# Definitions end with the object that made them.
_kept: list[torch.library.Library] = []


def load_open_clip() -> ModuleType:
    """The module open_clip.

    Where torchvision's compiled ops cannot be loaded (a CPU-only torch beside a CUDA torchvision), importing it fails
    with "operator torchvision::nms does not exist". Then, and only then, the two op names are declared without an
    implementation and the import is tried again: transforms and models work, calling nms still raises torchvision's
    own error.

    Raises:
        BackendError: open_clip, or a package it needs, is not installed.
    """
    return _load_beside_a_misfit("open_clip")


def load_torchvision(part: str = "torchvision") -> ModuleType:
    """The module torchvision, or a part of it by its full name; see ``load_open_clip``.

    Raises:
        BackendError: torchvision, which comes with open_clip_torch, is not installed.
    """
    return _load_beside_a_misfit(part)


def _load_beside_a_misfit(name: str) -> ModuleType:
    try:
        return _load(name)
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    _declare_ops()
    return _load(name)


def _load(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{name} cannot be imported, because the package {error.name!r} is missing; "
            'install it with "pip install open_clip_torch".'
        ) from error


def _declare_ops() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _kept.append(library)
