"""A small MTIL: several image sets in a row, each with class names of its own, for methods that start from CLIP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data.emoji import GROUPS, drawn
from pyfast_mmcl.data.folder import every_fifth, read_arrays
from pyfast_mmcl.data.images import pixels, rgb
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.text import DIGIT_WORDS
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys

_EMOJI_GROUPS = (0, 1, 3, 4, 5, 6, 7, 8, 9)


class _Set(NamedTuple):
    """Pictures [N, H, W] or [N, H, W, 3], class, whether they are tested on, and what the classes are called."""

    images: np.ndarray
    target: Tensor
    tested: Tensor
    names: Sequence[str]


def small_mtil_stream(
    scenario: str | Scenario = "til",
    n_tasks: int | None = None,
    *,
    sets: Sequence[str] = ("cifar10", "digits", "pacs", "emoji", "omniglot"),
    rows: int | None = 1500,
    held_out: str = "test",
    size: int = 32,
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """One image set per task, pictures [3, 32, 32] in [0, 1] and class names; 41 classes over the five sets.

    scenario   "til": a test row says which set it is from, as MTIL is measured; "cil": it does not (X-TAIL)
    sets       of "cifar10" (10 classes), "digits" (MNIST, 10), "pacs" (7, all styles), "emoji" (9 groups, all styles)
               and "omniglot" (5 alphabets), in the order of the tasks; ``n_tasks`` takes the first ones only
    rows       pictures of a set to train and test on, drawn once and for every seed alike; None: all
    held_out   "test": every fifth picture (emoji: every fifth emoji, in all styles; characters: every fifth drawing).
               "validation": these are left out and their neighbours tested on instead
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, …
    folder     where the files lie; by default the folder named by PYFAST_MMCL_DATA

    Classes of two sets may have one name ("dog", "horse"): with the task id only those of the own set are candidates.

    Reference: the protocol is that of MTIL, Zheng et al., *Preventing Zero-Shot Transfer Degradation*, ICCV 2023.
    """
    scenario = get_scenario(scenario)
    if scenario.name not in ("til", "cil"):
        raise InputError(f"small_mtil_stream: expected scenario til or cil, got {scenario.name!r}.")
    for name in sets:
        if name not in _READERS:
            raise unknown_name("image set", name, _READERS)
    chosen = tuple(sets)[:n_tasks]
    if not chosen or len(set(chosen)) < len(chosen) or len(chosen) != (len(sets) if n_tasks is None else n_tasks):
        raise InputError(f"sets: expected {n_tasks or 'some'} different image sets, got {list(sets)}.")
    read = [_some(_READERS[name](held_out, folder), rows) for name in chosen]
    starts = [sum(len(s.names) for s in read[:i]) for i in range(len(read))]
    return Stream.from_dataset(
        Records(
            {"image": torch.cat([rgb(s.images, size) for s in read])},
            torch.cat([s.target + start for s, start in zip(read, starts, strict=True)]),
            prepare={"image": pixels},
        ),
        scenario=scenario,
        classes=[list(range(start, start + len(s.names))) for s, start in zip(read, starts, strict=True)],
        task_names=chosen,
        test=torch.cat([s.tested for s in read]),
        class_names=[name for s in read for name in s.names],
        seed=seed,
        **dealing,
    )


def _some(whole: _Set, rows: int | None) -> _Set:
    if rows is None or whole_number("rows", rows) >= len(whole.target):
        return whole
    # Not the seed of the stream: every seed trains and tests on the same pictures.
    kept = reservoir_keys(fold_seed(0, len(whole.target)), torch.arange(len(whole.target))).argsort()[:rows]
    kept = kept.sort().values
    return _Set(whole.images[kept.numpy()], whole.target[kept], whole.tested[kept], whole.names)


def _of(images: np.ndarray, target: np.ndarray, names: Iterable[object], held_out: str) -> _Set:
    used, tested = every_fifth(len(target), held_out)
    label = torch.from_numpy(target.astype(np.int64))
    return _Set(images[used.numpy()], label[used], tested[used], [str(name) for name in names])


def _cifar10(held_out: str, folder: str | Path | None) -> _Set:
    data = read_arrays("cifar10_10k.npz", folder)
    return _of(data["x"], data["y"], data["classes"], held_out)


def _digits(held_out: str, folder: str | Path | None) -> _Set:
    images, digit = read_mnist(folder)
    return _of(images.numpy(), digit.numpy(), DIGIT_WORDS, held_out)


def _pacs(held_out: str, folder: str | Path | None) -> _Set:
    data = read_arrays("pacs.npz", folder)
    return _of(data["x"], data["y"], data["classes"], held_out)


def _omniglot(held_out: str, folder: str | Path | None) -> _Set:
    data = read_arrays("omniglot.npz", folder)
    names = [f"{str(name).replace('_', ' ')} letter" for name in data["alphabets"]]
    return _of(data["image"], data["alphabet"], names, held_out)


def _emoji(held_out: str, folder: str | Path | None) -> _Set:
    data = read_arrays("emoji.npz", folder)
    used, tested = every_fifth(data["x"].shape[1], held_out)
    group = torch.from_numpy(data["group"].astype(np.int64))
    label = torch.full((len(GROUPS),), -1)
    label[list(_EMOJI_GROUPS)] = torch.arange(len(_EMOJI_GROUPS))
    style, emoji = (drawn(data["x"]) & used & (label[group] >= 0)).nonzero().unbind(1)
    images = data["x"][style.numpy(), emoji.numpy()]
    return _Set(images, label[group[emoji]], tested[emoji], [GROUPS[g] for g in _EMOJI_GROUPS])


_READERS: dict[str, Callable[[str, str | Path | None], _Set]] = {
    "cifar10": _cifar10,
    "digits": _digits,
    "pacs": _pacs,
    "emoji": _emoji,
    "omniglot": _omniglot,
}
