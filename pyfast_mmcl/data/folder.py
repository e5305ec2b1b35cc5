"""Where the real data sets lie: a folder given by the caller or named by PYFAST_MMCL_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pyfast_mmcl._errors import InputError

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


def read_arrays(name: str, folder: str | Path | None = None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises InputError when it cannot be read."""
    path = data_file(name, folder)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is no readable .npz file of plain arrays ({error}); fetch it again.") from error
