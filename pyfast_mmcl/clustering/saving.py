"""Fitted estimators on the disk: tensors in safetensors, all else in JSON, written atomically, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import CheckpointError, InputError, UnknownNameError, unknown_name
from pyfast_mmcl.clustering.base import Estimator
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.samples import Samples
from pyfast_mmcl.clustering.values import Foreign, decode, encode
from pyfast_mmcl.train.checkpoint import has_checkpoint, load_checkpoint, save_checkpoint
from pyfast_mmcl.train.isolate import choose_device, isolated
from pyfast_mmcl.train.registry import estimators, get_estimator

FORMAT = 1


def save_estimator(model: Estimator, folder: str | Path) -> None:
    """Write a fitted estimator to ``folder``: parameters, scaling, network and fitted attributes.

    What belongs to a run and not to what was learnt is left out: ``random_state`` that is a generator (None after
    loading), and of ``training`` the checkpoints and the accelerator. A parameter that is no number, text, array or
    object of this package (a module, a function) is left out as well and has to be given to ``load_estimator``.

    An estimator that was saved there before is replaced; a crash leaves the old one or the new one.

    Raises InputError for what is no fitted estimator of the registry, CheckpointError for a folder that holds something
    else or cannot be written.
    """
    folder = Path(folder)
    entry = next((e for e in estimators().values() if e.target is type(model)), None)
    if entry is None or not isinstance(model, Estimator):
        raise InputError(f"expected a registered clustering estimator, got {type(model).__name__}; see `methods`.")
    state = vars(model)
    if not any(name.endswith("_") and not name.startswith("_") for name in state):
        raise InputError(f"this {type(model).__name__} is not fitted; call fit before save_estimator.")
    if has_checkpoint(folder):
        _read(folder)  # whatever lies there must be an estimator
    parameters = model.get_params(deep=False)
    own: dict[str, Any] = {
        name: value for name, value in state.items() if name not in parameters and not isinstance(value, nn.Module)
    }
    network = state.get("network_")
    save_checkpoint(
        folder,
        {
            "saved": "estimator",
            "format": FORMAT,
            "method": entry.name,
            "parameters": {name: _parameter(value) for name, value in parameters.items()},
            "attributes": {name: encode(value, f"{entry.name}: attribute {name}") for name, value in own.items()},
            "network": None if network is None else dict(network.state_dict()),
        },
    )


def load_estimator(folder: str | Path, *, device: str | None = None, **given: Any) -> Any:
    """The estimator that ``save_estimator`` wrote: its answers have the bits of the one that was saved.

    device  of a deep estimator's network; default that of its ``training`` where it is there, else as for fitting
    given   parameters that were left out, by name

    Raises CheckpointError when there is none, or when it is damaged, foreign or of another version; InputError when a
    parameter that was left out is not given.
    """
    folder = Path(folder)
    state = _read(folder)
    try:
        target = get_estimator(state["method"]).target
    except UnknownNameError as error:
        raise CheckpointError(
            f"{folder} holds an estimator of a method that is not here: {error} Import the file that registers it."
        ) from error
    try:
        parameters = {name: decode(value) for name, value in state["parameters"].items()}
        model = target(**_completed(folder, parameters, given))
        for name, value in state["attributes"].items():
            setattr(model, name, decode(value))
        if state["network"] is not None:
            _put_network(model, state["network"], device)
    except (CheckpointError, InputError):
        raise
    except (KeyError, TypeError, AttributeError, RuntimeError, ValueError, IndexError, ImportError) as error:
        raise CheckpointError(
            f"{folder} does not fit this version's {state.get('method')} ({str(error).splitlines()[-1].strip()}); load "
            "it with the version that saved it, or fit anew."
        ) from error
    return model


def _read(folder: Path) -> dict[str, Any]:
    if not has_checkpoint(folder):
        raise CheckpointError(f"no estimator in {folder}; give the folder that save_estimator wrote.")
    state = load_checkpoint(folder)
    if state.get("saved") != "estimator":
        raise CheckpointError(f"{folder} holds the checkpoint of a training and no estimator; give another folder.")
    if state.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} holds an estimator of format {state.get('format')}, this version reads format {FORMAT}; use the "
            "version that saved it, or fit anew."
        )
    return state


def _parameter(value: Any) -> Any:
    """A parameter as it is stored; what cannot be is named by its type."""
    if isinstance(value, Training):
        value = replace(value, checkpoint_dir=None, checkpoint_every=None, resume=False, accelerator=None)
    try:
        return encode(value, "parameter")
    except InputError:
        return encode(Foreign(type(value).__name__), "parameter")


def _completed(folder: Path, parameters: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters; those that were left out come from the caller."""
    left_out = {name: value.kind for name, value in parameters.items() if isinstance(value, Foreign)}
    for name in given:
        if name not in left_out:
            raise unknown_name("parameter that was left out", name, left_out)
    for name, kind in left_out.items():
        if name == "random_state":
            parameters[name] = None
        elif name not in given:
            raise InputError(
                f"{folder}: the parameter {name} ({kind}) could not be stored; pass load_estimator(folder, {name}=…)."
            )
    return {**parameters, **given}


def _put_network(model: DeepEstimator, state: Mapping[str, Tensor], device: str | None) -> None:
    """Build the network anew on rows of zeros, which decide nothing but shapes, and give it what was learnt."""
    how = Training() if model.training is None else model.training
    if device is not None:
        model.training = how = replace(how, device=device)
    elif how.device is not None and not _is_there(how.device):
        model.training = how = replace(how, device=None)
    place = choose_device(how.device)
    zeros = torch.zeros(1, *model._shape).expand(len(model.labels_), *model._shape)
    samples = Samples(zeros, torch.device("cpu"), numpy=True, home=torch.device("cpu"))
    samples.scaling = model._scaling
    with isolated(torch.device("cpu"), how.threads):
        network = model._network(samples, model.n_clusters_)
    for name, buffer in list(network.named_buffers()):
        if name in state and buffer.shape != state[name].shape:
            owner, _, own = name.rpartition(".")  # its length came from the rows
            setattr(network.get_submodule(owner), own, torch.empty_like(state[name]))
    network.load_state_dict(dict(state))
    model.network_ = network.to(place).eval()


def _is_there(device: str) -> bool:
    try:
        choose_device(device)
    except InputError:
        return False
    return True
