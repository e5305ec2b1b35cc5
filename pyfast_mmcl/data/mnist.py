"""The 10,000 test digits of MNIST as the package's small image set."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.folder import data_file

IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def read_mnist(folder: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Images uint8 [10000, 28, 28] and labels int64 [10000] of t10k-*-ubyte.gz. Raises InputError for other files.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, The MNIST database of handwritten digits, 1998.
    """
    images, labels = (read_idx(data_file(name, folder)) for name in (IMAGES, LABELS))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise InputError(f"MNIST: expected images [N, 28, 28] and labels [N], got {images.shape} and {labels.shape}.")
    return torch.from_numpy(images), torch.from_numpy(labels).to(torch.int64)


def read_idx(path: Path) -> np.ndarray:
    """A gzipped idx file of unsigned bytes: two zeros, 8, the number of axes, their lengths, then the bytes."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is no readable gzip file ({error}); fetch it again.") from error
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    shape = tuple(int(n) for n in np.frombuffer(data[4 : 4 + 4 * axes], ">u4")) if len(data) >= 4 + 4 * axes else ()
    if not axes or len(shape) != axes or len(data) != 4 + 4 * axes + math.prod(shape):
        raise InputError(f"{path} is no idx file of unsigned bytes, or it is cut short; fetch it again.")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
