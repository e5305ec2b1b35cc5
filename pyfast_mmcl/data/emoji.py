"""Emoji: pictures in three styles and their English names, to be found by each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.folder import every_fifth, read_arrays
from pyfast_mmcl.data.images import pixels, rgb
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.tokenize import Tokenize, encode_texts

# The groups of the Unicode list of emoji, in its order; the third holds parts of other emoji (hair), three of them.
GROUPS = (
    "smileys and emotion",
    "people and body",
    "component",
    "animals and nature",
    "food and drink",
    "travel and places",
    "activities",
    "objects",
    "symbols",
    "flags",
)
_PARTS = GROUPS.index("component")


def emoji_stream(
    scenario: str | Scenario = "dil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    objective: str = "pairs",
    keywords: bool = False,
    tokenize: Tokenize = "clip",
    length: int = 16,
    size: int | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """1,355 emoji as pictures [3, 48, 48] in [0, 1] with the token ids [16] of their names; the target is the emoji.

    scenario   "dil": one style per task (twemoji, noto, blob); "cil": one group per task (faces, people, animals, …)
               in all styles. ``n_tasks`` takes the first tasks only
    held_out   "test": every fifth emoji is never trained on, in no style. "validation": these are left out and their
               neighbours tested on instead
    objective  "pairs": find the name of a picture and the picture of a name (retrieval)
    keywords   True adds the keywords to the names
    tokenize   "clip", "words" or a function of texts (``tokenize.TextEncoder``); length: tokens of a text
    size       pixels of a side, None: 48 as in the file
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, missing, …
    folder     where emoji.npz lies; by default the folder named by PYFAST_MMCL_DATA

    Blank pictures are left out, and so is a picture with the very pixels of the same emoji in an earlier style.

    Sources: Twemoji, Noto Emoji (present and blob) with the names of the Unicode list.
    """
    scenario = get_scenario(scenario)
    if scenario.name not in ("dil", "cil"):
        raise InputError(f"emoji_stream: expected scenario dil or cil, got {scenario.name!r}.")
    data = read_arrays("emoji.npz", folder)
    group = torch.from_numpy(data["group"].astype(np.int64))
    used, tested = every_fifth(len(group), held_out)
    shown = drawn(data["x"]) & used & (group != _PARTS)
    style, emoji = shown.nonzero().unbind(1)
    names = [str(name) for name in data["text"]]
    trained = (used & ~tested).nonzero().flatten()
    text, vocabulary = encode_texts(_texts(data, names, keywords), tokenize, length, trained)
    records = Records(
        {"image": rgb(data["x"][style.numpy(), emoji.numpy()], size), "text": text[emoji]},
        emoji,
        prepare={"image": pixels},
    )
    by_style = scenario.labels == "shared"
    tasks = [str(name) for name in data["styles"]] if by_style else [g for i, g in enumerate(GROUPS) if i != _PARTS]
    n = _first(n_tasks, len(tasks))
    if by_style:
        records, kept = _rows(records, style < n), style < n
        chosen: dict[str, Any] = {"domains": style[kept], "test": tested[emoji[kept]]}
    else:
        wanted = [g for g in range(len(GROUPS)) if g != _PARTS][:n]
        chosen = {"classes": [emoji[group[emoji] == g].unique().tolist() for g in wanted], "test": tested[emoji]}
    return Stream.from_dataset(
        records,
        scenario=scenario,
        task_names=tasks[:n],
        class_names=names,
        vocabulary=vocabulary,
        objective=objective,
        seed=seed,
        **chosen,
        **dealing,
    )


def drawn(images: np.ndarray) -> Tensor:
    """bool [styles, N]: pictures [styles, N, H, W, 3] neither blank nor equal to the same emoji in an earlier style."""
    flat = images.reshape(*images.shape[:2], -1)
    valid = flat.min(2) != flat.max(2)
    for style in range(1, len(flat)):
        valid[style] &= ~(flat[:style] == flat[style]).all(2).any(0)
    return torch.from_numpy(valid)


def _texts(data: dict[str, np.ndarray], names: list[str], keywords: bool) -> list[str]:
    if not keywords:
        return names
    return [f"{name}, {str(tags).replace('|', ', ')}" for name, tags in zip(names, data["tags"], strict=True)]


def _first(n_tasks: int | None, available: int) -> int:
    n = available if n_tasks is None else n_tasks
    if not 1 <= n <= available:
        raise InputError(f"n_tasks: expected 1 to {available}, got {n_tasks}.")
    return n


def _rows(records: Records, kept: Tensor) -> Records:
    columns = {name: column[kept] for name, column in records.columns.items()}
    return Records(columns, records.target[kept], prepare=records.prepare)
