"""ClustPy's forms of the same methods, with the same network, epochs, batches and rows as ours.

Losses, optimisers and learning rates are ClustPy's own. It lies aside: `python -m benchmarks.aside clustpy`.
"""

from __future__ import annotations

import contextlib
import io
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks import aside
from benchmarks.families.contrastive import torchvision_operators
from benchmarks.methods.clusters_data import Data
from benchmarks.methods.clusters_settings import BATCH, CODE, WIDTHS, Budget
from pyfast_mmcl._errors import BackendError

STARTS = {"n_init": 20}  # of the k-means that starts the centres; ours
GROUP = 2  # coordinates per cluster of DEN's code; ours
_OURS = {"DEC": "dec", "IDEC": "dec", "AEC": "abdc", "VaDE": "vade", "DEN": "den"}


@cache
def library() -> Any:
    """The module clustpy.deep. Raises BackendError where it cannot be imported."""
    torchvision_operators.declare()
    reason = aside.unavailable("clustpy", "clustpy.deep")
    if reason:
        raise BackendError(reason)
    import clustpy.deep

    return clustpy.deep


def dec(data: Data, seed: int, budget: Budget) -> np.ndarray:
    return _fitted("DEC", data.vectors, data.K, seed, budget, initial_clustering_params=STARTS).dec_labels_


def idec(data: Data, seed: int, budget: Budget) -> np.ndarray:
    return _fitted("IDEC", data.vectors, data.K, seed, budget, initial_clustering_params=STARTS).dec_labels_


def aec(data: Data, seed: int, budget: Budget) -> np.ndarray:
    """Auto-encoder based data clustering, which the package calls ABDC; started by k-means, as ours."""
    from sklearn.cluster import KMeans

    start = {"initial_clustering_class": KMeans, "initial_clustering_params": STARTS}
    return _fitted("AEC", data.vectors, data.K, seed, budget, **start).labels_


def vade(data: Data, seed: int, budget: Budget) -> np.ndarray:
    return _fitted("VaDE", data.unit_range, data.K, seed, budget).vade_labels_


def den(data: Data, seed: int, budget: Budget) -> np.ndarray:
    """It learns by the whole objective from the start: for as many epochs as ours has in both phases."""
    ours = budget.of("den", len(data.y))
    options = {"group_size": GROUP, "pretrain_epochs": ours["pretrain_epochs"] + ours["epochs"]}
    return _fitted("DEN", data.vectors, data.K, seed, budget, code=GROUP * data.K, **options).labels_


def _fitted(name: str, rows: np.ndarray, K: int, seed: int, budget: Budget, code: int = CODE, **options: Any) -> Any:
    deep = library()
    network = deep.vade._VaDE_VAE if name == "VaDE" else deep.neural_networks.FeedforwardAutoencoder
    layers = {"layers": [rows.shape[1], *WIDTHS, code], "activation_fn": torch.nn.ReLU}
    ours = budget.of(_OURS[name], len(rows))
    epochs = {"pretrain_epochs": ours["pretrain_epochs"]}
    if name != "DEN":
        epochs["clustering_epochs"] = ours["epochs"]
    model = getattr(deep, name)(
        n_clusters=K,
        batch_size=BATCH,
        neural_network=(network, layers),
        embedding_size=code,
        device="cpu",
        random_state=seed,
        **epochs | options,
    )
    # It prints, and draws a progress bar for every phase.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return model.fit(rows)
