"""Data sets of the clustering tests and benchmarks: NumPy arrays (X [N, D], y [N])."""

import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits of 8×8 pixels."""
    return load_digits(return_X_y=True)


def mnist10k(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The 10,000 MNIST test digits, pixels between 0 and 1."""
    images = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    return images.reshape(len(labels), -1).astype(np.float32) / 255, labels.astype(np.int64)


def views(folder: Path, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Dense views of a multi-view set: features of unit variance, divided by √D so that every view weighs the same."""
    with np.load(folder / f"multiview_{name}.npz") as stored:
        dense = [stored[f"v{i}"].astype(np.float64) for i in range(len(stored.files)) if f"v{i}" in stored.files]
        y = stored["y"]
    return [(v - v.mean(0)) / np.where(v.std(0) > 0, v.std(0), 1) / np.sqrt(v.shape[1]) for v in dense], y
