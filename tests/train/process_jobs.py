"""Runs of the learner that several processes take part in, started by ``accelerate launch`` and by the tests alike."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from pyfast_mmcl.cli import app
from pyfast_mmcl.clustering.augmentation.cc import CC
from pyfast_mmcl.clustering.augmentation.iic import IIC
from pyfast_mmcl.clustering.augmentation.imsat import IMSAT
from pyfast_mmcl.clustering.augmentation.rim import RIM
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.clustering.distribution.vade import VaDE
from pyfast_mmcl.clustering.external.tac import TAC
from pyfast_mmcl.clustering.neighborhood.scan import SCAN
from pyfast_mmcl.clustering.pseudo_label.dec import DEC
from pyfast_mmcl.clustering.structure.den import DEN
from pyfast_mmcl.clustering.structure.jule import JULE
from pyfast_mmcl.clustering.structure.spectral_net import SpectralNet
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import Learner, default_model
from tests.clustering.images import SHADES, as_images

# Methods of every kind of loss: per row, with a memory, over pairs, over weights, with a teacher, distilled logits.
RUNS: dict[str, dict[str, Any]] = {
    "finetune": {},
    "er": {"hyper": {"capacity": 20}},
    "kdr": {"hyper": {"capacity": 20}},
    "online_ewc": {},
    "derpp": {"hyper": {"capacity": 20}},
    "si": {},
    "agem": {"hyper": {"capacity": 20}},
    "icarl": {"hyper": {"capacity": 20}},
    "pairs": {"method": "er", "objective": "pairs"},
    "parts": {"method": "er", "accumulate": 2, "clip_norm": 0.5, "schedule": "cosine", "warmup": 2},
}


def encoder(channels: int) -> nn.Module:
    """Batch normalisation behind a layer without bias, whose gradient would be rounding that Adam makes steps of."""
    return nn.Sequential(nn.Flatten(), nn.Linear(36 * channels, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU())


# What all processes learn as one does: means over rows; statistics of a batch, contrast, views and batch normalisation.
ALIKE: dict[str, tuple[Any, dict[str, Any]]] = {
    "dec": (DEC, {"widths": (16,), "code": 4, "pretrain_epochs": 10, "epochs": 4, "n_init": 2}),
    "rim": (RIM, {"epochs": 4}),
    "iic": (IIC, {"backbone": encoder, "augment": SHADES, "epochs": 3, "lr": 0.01, "heads": 2}),
    "cc": (CC, {"backbone": encoder, "augment": SHADES, "epochs": 3, "lr": 0.005, "projection": 8}),
    "scan": (SCAN, {"widths": (16,), "heads": 2, "neighbors": 5, "epochs": 3, "self_label_epochs": 2}),
    "tac": (TAC, {"text_bank": np.eye(8), "width": 16, "neighbors": 5, "epochs": 3, "n_init": 2}),
    "spectral_net": (SpectralNet, {"widths": (16,), "siamese": (8,), "siamese_epochs": 2, "epochs": 3, "n_init": 2}),
    "den": (DEN, {"widths": (16,), "pretrain_epochs": 2, "epochs": 2, "neighbors": 5, "n_init": 2}),
    "jule": (JULE, {"widths": (16,), "code": 8, "epochs": 1, "neighbors": 10}),
}
# Numbers that are drawn on the way differ.
CLUSTERS = {
    **ALIKE,
    "imsat": (IMSAT, {"widths": (32,), "epochs": 12}),
    "unseeded": (RIM, {"epochs": 4, "random_state": None}),
    "vade": (VaDE, {"widths": (16,), "code": 4, "pretrain_epochs": 10, "epochs": 4}),
}

# What the command line is given, with one process and with several.
COMMAND = ("--method", "er", "--epochs", "1", "--tasks", "2", "--device", "cpu", "--tracker", "csv")


def make_stream(objective: str = "classify") -> Stream:
    """Three tasks of two classes (or ten pairs), two modalities of which one misses here and there; float64."""
    g = torch.Generator().manual_seed(2)
    target = torch.arange(150) % (6 if objective == "classify" else 30)
    a = torch.randn(150, 6, generator=g, dtype=torch.float64) + target[:, None]
    b = torch.randn(150, 5, generator=g, dtype=torch.float64) - target[:, None]
    return Stream.from_dataset(
        Records({"a": a, "b": b}, target), n_tasks=3, missing={"b": 0.2}, validation=0.2, objective=objective
    )


def run(name: str, **settings: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """Weights and history of one run in float64, with batches that no number of processes divides."""
    chosen = {"method": name, "objective": "classify", **RUNS[name], **settings}
    method, stream = chosen.pop("method"), make_stream(chosen.pop("objective"))
    model = default_model(stream, method).double()
    learner = Learner(
        model, method, epochs=1, batch_size=15, optimizer="sgd", lr=0.02, progress=False, threads=None, **chosen
    )
    history = learner.fit(stream)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), history.to_dict()


def cluster(name: str, folder: Path | None = None, **training: Any) -> dict[str, torch.Tensor]:
    """What a deep estimator has learnt from three groups of rows, in batches that no number of processes divides."""
    g = torch.Generator().manual_seed(3)
    rows = torch.randn(123, 8, generator=g) / 2 + 10 * torch.eye(3, 8)[torch.arange(123) % 3]
    estimator, settings = CLUSTERS[name]
    how = Training(checkpoint_dir=folder, device="cpu", **training)
    X = torch.from_numpy(as_images(rows.numpy())) if estimator.takes_images else rows
    model = estimator(3, **{"batch_size": 32, "random_state": 0, "training": how, **settings}).fit(X)
    losses = torch.tensor([value for epoch in model.history_ for value in epoch["terms"].values()])
    return {"labels": model.labels_, "losses": losses, "soft": model.predict_proba(X), **model.network_.state_dict()}


def main(folder: Path) -> None:
    """Every run over all processes; each process writes what it has at the end."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    weights, histories = {}, {}
    for name in RUNS:
        where = folder / name if name == "er" else None
        weights[name], histories[name] = run(name, accelerator=accelerator, checkpoint_dir=where)
    clusters = {name: cluster(name, folder / name, accelerator=accelerator) for name in CLUSTERS}
    code = app(["train", "--out", str(folder / "cli"), *COMMAND], standalone_mode=False)
    rank = accelerator.process_index
    save_file(weights, folder / f"weights-{rank}.safetensors")
    found = {f"{name}/{key}": value for name, values in clusters.items() for key, value in values.items()}
    save_file(found, folder / f"clusters-{rank}.safetensors")
    (folder / f"histories-{rank}.json").write_text(
        json.dumps({"world": accelerator.num_processes, "code": code, "runs": histories})
    )
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
