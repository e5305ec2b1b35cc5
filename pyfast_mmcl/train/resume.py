"""A run as a checkpoint, and back: everything that decides the bits of the steps to come."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.models import Growing
from pyfast_mmcl.train.checkpoint import has_checkpoint
from pyfast_mmcl.train.history import History
from pyfast_mmcl.train.identity import differences
from pyfast_mmcl.train.modes import rest, resting
from pyfast_mmcl.train.place import Position
from pyfast_mmcl.train.teacher import remember_before_growth

if TYPE_CHECKING:
    from pyfast_mmcl.train.learner import Learner


def check_folder(learner: Learner, resume: bool) -> None:
    """Raise InputError when a run would overwrite an earlier one, or resume without a folder."""
    folder = learner.checkpoint_dir
    if folder is None and resume:
        raise InputError("resume: there is no folder to resume from; give checkpoint_dir.")
    if folder is not None and has_checkpoint(folder) and not resume:
        raise InputError(f"{folder} holds the checkpoint of an earlier run; resume it or choose another folder.")


def run_state(learner: Learner) -> dict[str, Any]:
    """What a checkpoint holds. Random state is not in it: it depends on (seed, position) alone."""
    model, optimizer, scaler = learner.model, learner._optimizer, learner._stepper.precision.scaler
    return {
        "run": _identity(learner),
        "position": asdict(learner._at),
        "structure": model.structure() if isinstance(model, Growing) else None,
        "model": dict(model.state_dict()),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "resting": resting(model),
        "trained": learner._trained,
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "early": None if learner._early is None else learner._early.state_dict(),
        "parts": [part.state_dict() for part in learner.parts],
        "sums": dict(learner._sums),
        "scaler": None if scaler is None else scaler.state_dict(),
        "history": learner.history.to_dict(),
    }


def take_state(learner: Learner, state: dict[str, Any]) -> None:
    """Continue ``learner`` from ``state``. Raises CheckpointError when it belongs to another run."""
    if different := differences(state.get("run", {}), _identity(learner)):
        raise CheckpointError(
            f"checkpoint {learner.checkpoint_dir} belongs to another run: {different}; use the same settings or "
            f"another folder."
        )
    for part, values in zip(learner.parts, state["parts"], strict=True):
        part.load_state_dict(values)
    _take_model(learner, state)
    learner._at = Position(**state["position"])
    learner.history = History.from_dict(state["history"])
    learner._sums = {name: value.to(learner.device) for name, value in state["sums"].items()}
    if learner._early is not None:
        learner._early.load_state_dict(state["early"])
    if learner._at.started:
        learner.task = learner._stream.tasks[learner._at.task]
        learner._trained = state["trained"]
        learner._optimizer = learner._make_optimizer()
        if state["optimizer"] is not None:
            learner._optimizer.load_state_dict(state["optimizer"])
    if state["scaler"] is not None:
        learner._stepper.precision.scaler.load_state_dict(state["scaler"])


def _take_model(learner: Learner, state: dict[str, Any]) -> None:
    """The structure that the model had grown to, its weights, which of them are frozen, and its modes."""
    model = learner.model
    if isinstance(model, Growing):
        remember_before_growth(model, state["parts"])
        model.restructure(state["structure"])
        model.to(learner.device)
    try:
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint {learner.checkpoint_dir} holds another model than the given one; build the model as in the "
            f"first run, and give it structure() and restructure() (models.Growing) where it grows on the way "
            f"({str(error).splitlines()[-1].strip()})."
        ) from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    rest(model, set(state["resting"]))


def weights_are_finite(learner: Learner) -> bool:
    """Whether every parameter of the model is finite. Buffers may hold infinities on purpose, as attention masks do."""
    return all(bool(torch.isfinite(p).all()) for p in learner.model.parameters())


def _identity(learner: Learner) -> dict[str, Any]:
    return {
        "method": learner.method.name,
        "hyper-parameters": learner.method.hyper,
        "parts": learner.method.arguments,
        "seed": learner.seed,
        "epochs": learner.given_epochs,
        "batch size": learner.batch_size,
        "optimizer": learner.optimizer_name,
        "schedule": learner._rate.name,
        "warm-up": learner._rate.warmup,
        "patience": None if learner._early is None else learner._early.patience,
        "precision": learner._stepper.precision.name,
        "accumulation": learner._stepper.accumulate,
        "gradient clipping": learner._stepper.clip_norm,
        "measure": learner.measure_name,
        "measure by modality": learner.by_modality,
        "stream": learner._stream.fingerprint(),
    }
