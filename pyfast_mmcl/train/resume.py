"""A run as a checkpoint, and back: everything that decides the bits of the steps to come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.train.checkpoint import has_checkpoint
from pyfast_mmcl.train.history import History

if TYPE_CHECKING:
    from pyfast_mmcl.train.learner import Learner


@dataclass
class Position:
    """Where a run stands: ``step`` batches of ``epoch`` of ``task`` are done, ``total`` batches of the whole run."""

    task: int = 0
    epoch: int = 0
    step: int = 0
    total: int = 0
    started: bool = False  # whether before_task has been called for this task


def check_folder(learner: Learner, resume: bool) -> None:
    """Raise InputError when a run would overwrite an earlier one, or resume without a folder."""
    folder = learner.checkpoint_dir
    if folder is None and resume:
        raise InputError("resume: there is no folder to resume from; give checkpoint_dir.")
    if folder is not None and has_checkpoint(folder) and not resume:
        raise InputError(f"{folder} holds the checkpoint of an earlier run; resume it or choose another folder.")


def run_state(learner: Learner) -> dict[str, Any]:
    """What a checkpoint holds. Random state is not in it: it depends on (seed, position) alone."""
    optimizer, accelerator = learner._optimizer, learner.accelerator
    scaler = getattr(accelerator, "scaler", None)
    return {
        "run": _identity(learner),
        "position": asdict(learner._at),
        "model": dict(learner.model.state_dict()),
        "frozen": [name for name, p in learner.model.named_parameters() if not p.requires_grad],
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "parts": [part.state_dict() for part in learner.parts],
        "sums": dict(learner._sums),
        "scaler": None if scaler is None else scaler.state_dict(),
        "history": learner.history.to_dict(),
    }


def take_state(learner: Learner, state: dict[str, Any]) -> None:
    """Continue ``learner`` from ``state``. Raises CheckpointError when it belongs to another run."""
    mine, theirs = _identity(learner), state.get("run", {})
    for name, here in mine.items():
        there = theirs.get(name)
        if there != here:
            raise CheckpointError(
                f"checkpoint {learner.checkpoint_dir} belongs to another run: its {name} is {_short(there)}, "
                f"here it is {_short(here)}; use the same settings or another folder."
            )
    for part, values in zip(learner.parts, state["parts"], strict=True):
        part.load_state_dict(values)
    try:
        learner.model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint {learner.checkpoint_dir} holds another model than the given one; "
            f"build the model as in the first run ({str(error).splitlines()[-1].strip()})."
        ) from error
    for name, parameter in learner.model.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    learner._at = Position(**state["position"])
    learner.history = History.from_dict(state["history"])
    learner._sums = {name: value.to(learner.device) for name, value in state["sums"].items()}
    if learner._at.started:
        learner.task = learner._stream.tasks[learner._at.task]
        learner._optimizer = learner._make_optimizer()
        if state["optimizer"] is not None:
            learner._optimizer.load_state_dict(state["optimizer"])
    if state["scaler"] is not None:
        learner.accelerator.scaler.load_state_dict(state["scaler"])


def weights_are_finite(learner: Learner) -> bool:
    """Whether every parameter of the model is finite. Buffers may hold infinities on purpose, as attention masks do."""
    return all(bool(torch.isfinite(p).all()) for p in learner.model.parameters())


def _identity(learner: Learner) -> dict[str, Any]:
    return {
        "method": learner.method.name,
        "hyper-parameters": learner.method.hyper,
        "seed": learner.seed,
        "epochs": learner.epochs,
        "batch size": learner.batch_size,
        "optimizer": learner.optimizer_name,
        "gradient clipping": learner.clip_norm,
        "measure": learner.measure_name,
        "stream": learner._stream.fingerprint(),
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
