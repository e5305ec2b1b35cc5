"""What the columns of a table that are no modality say: the class of a row, its task, its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name

# Names that are understood without being told; the first is the one to recommend.
NAMES = {"target": ("target", "label", "class", "answer"), "task": ("task", "domain"), "split": ("split",)}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def find_column(role: str, given: str | None, names: Sequence[str]) -> str | None:
    """The column of a role: the one ``given``, or the one with a usual name. Raises InputError where two would do."""
    if given is not None:
        if given not in names:
            raise unknown_name(f"column for {role}=", given, names)
        return given
    found = [name for name in names if name.lower() in NAMES[role]]
    if len(found) > 1:
        raise InputError(f"columns {found} could all be the {role}; say which with {role}=.")
    return found[0] if found else None


def labels(cells: Sequence[Any], where: Sequence[str], name: str) -> tuple[Tensor, list[str]]:
    """Classes int64 [N] and their names: whole numbers in ascending order, else words in alphabetical order."""
    texts = [_word(cell, place, name) for cell, place in zip(cells, where, strict=True)]
    numbers = [_number(text) for text in texts]
    if all(number is not None for number in numbers):
        for number, place in zip(numbers, where, strict=True):
            if number != int(number or 0):
                raise InputError(f"{place}: {name} {number} is no class; give class names or whole numbers.")
        found = [str(number) for number in sorted({int(number or 0) for number in numbers})]
        texts = [str(int(number or 0)) for number in numbers]
    else:
        found = sorted(set(texts))
    place_of = {word: i for i, word in enumerate(found)}
    return torch.tensor([place_of[text] for text in texts]), found


def numbers(cells: Sequence[Any], where: Sequence[str], name: str, n_classes: int) -> list[int]:
    """Class numbers as they are; every one below ``n_classes``."""
    for cell, place in zip(cells, where, strict=True):
        if not isinstance(cell, int) or not 0 <= cell < n_classes:
            raise InputError(f"{place}: {name} is {cell!r}, expected a class from 0 to {n_classes - 1}; drop the row.")
    return list(cells)


def words(cells: Sequence[Any], where: Sequence[str], name: str) -> list[str]:
    """The text of every cell; none may be empty."""
    return [_word(cell, place, name) for cell, place in zip(cells, where, strict=True)]


def tasks(cells: Sequence[Any], where: Sequence[str], name: str) -> tuple[Tensor, list[str]]:
    """Tasks int64 [N] and their names: whole numbers in ascending order, else in the order of their first rows."""
    texts = words(cells, where, name)
    found = list(dict.fromkeys(texts))
    if all(text.lstrip("-").isdigit() for text in found):
        found.sort(key=int)
    place_of = {word: i for i, word in enumerate(found)}
    return torch.tensor([place_of[text] for text in texts]), found


def splits(cells: Sequence[Any], where: Sequence[str], name: str) -> Mapping[str, Tensor]:
    """bool [N] of "train", "validation" and "test"; an empty cell is training. Raises InputError for other words."""
    chosen = []
    for cell, place in zip(cells, where, strict=True):
        word = "train" if cell is None else str(cell).lower()
        if word not in SPLIT_WORDS:
            raise InputError(f"{place}: {name} is {cell!r}; expected train, validation or test.")
        chosen.append(SPLIT_WORDS[word])
    found = {split: torch.tensor([word == split for word in chosen]) for split in ("train", "validation", "test")}
    for split in ("train", "test"):
        if not bool(found[split].any()):
            raise InputError(
                f"column {name!r} puts no row into {split}; name some, or leave the column out to have the rows split."
            )
    return found


def classes_of_tasks(target: Tensor, task: Tensor, class_names: Sequence[str], task_names: Sequence[str]) -> list[Any]:
    """The classes of every task. Raises InputError for a class that two tasks have."""
    owner: dict[int, int] = {}
    for label, t in torch.stack([target, task], 1).unique(dim=0).tolist():
        if owner.setdefault(label, t) != t:
            raise InputError(
                f"class {class_names[label]!r} is in task {task_names[owner[label]]!r} and in task {task_names[t]!r}; "
                f"choose scenario dil for tasks that share classes, or give the class another name in each."
            )
    return [[label for label, t in sorted(owner.items()) if t == wanted] for wanted in range(len(task_names))]


def share_classes(target: Tensor, task: Tensor) -> bool:
    """Whether some class is in two tasks."""
    return len(torch.stack([target, task], 1).unique(dim=0)) > len(target.unique())


def _word(cell: Any, where: str, name: str) -> str:
    if cell is None:
        raise InputError(f"{where}: {name} is empty; fill it in or leave the row out.")
    if isinstance(cell, list | tuple | dict):
        raise InputError(f"{where}: {name} holds a list; give one word or number.")
    return str(cell)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) < 2**53 else None
