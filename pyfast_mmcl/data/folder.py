"""Where the real data sets lie: a folder given by the caller or named by PYFAST_MMCL_DATA."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name

VARIABLE = "PYFAST_MMCL_DATA"
# "validation" is for choosing hyper-parameters: the test examples are left out and others, which are then not trained
# on, take their place.
HELD_OUT = ("test", "validation")


def data_file(name: str, folder: str | Path | None = None) -> Path:
    """The file ``name`` in ``folder``, by default the folder that PYFAST_MMCL_DATA names.

    Raises InputError when there is no such folder or file.
    """
    root = folder if folder is not None else os.environ.get(VARIABLE)
    if not root:
        raise InputError(f"{name}: no folder of data; give folder= or set the environment variable {VARIABLE}.")
    path = Path(root) / name
    if not path.is_file():
        raise InputError(f"{path} does not exist; put the file there or choose another folder.")
    return path


def every_fifth(n: int, held_out: str) -> tuple[Tensor, Tensor]:
    """bool [n] which of n examples are used at all, and which of them are tested on.

    Every fifth one is the test. With "validation" those are not used, and their neighbours are tested on instead.
    The choice is the same for every seed, so that nothing tuned on validation examples has seen a test example.
    """
    if held_out not in HELD_OUT:
        raise unknown_name("choice for held_out", held_out, HELD_OUT)
    fifth = torch.arange(n) % 5
    if held_out == "test":
        return torch.ones(n, dtype=torch.bool), fifth == 4
    return fifth != 4, fifth == 3


def read_arrays(name: str, folder: str | Path | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises InputError when it cannot be read."""
    path = data_file(name, folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no readable .npz file of plain arrays ({error}); fetch it again.") from error


def read_json(name: str, folder: str | Path | None = None) -> Any:
    """What a gzipped JSON file holds. Raises InputError when it cannot be read."""
    path = data_file(name, folder)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is no readable gzipped JSON file ({error}); fetch it again.") from error
