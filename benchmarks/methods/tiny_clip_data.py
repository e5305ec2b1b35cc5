"""What the tiny CLIP is pretrained on, and what it is never shown so that zero-shot ability can be measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from pyfast_mmcl.data.emoji import GROUPS, drawn
from pyfast_mmcl.data.folder import read_arrays
from pyfast_mmcl.data.images import resized, rgb
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.text import DIGIT_WORDS
from pyfast_mmcl.models.zero_shot import PHOTO, SEVERAL

SIZE = 32
# The streams of the package test on every fifth row of a set and validate on the one before it.
TESTED, VALIDATED = 4, 3
CIFAR_CLASSES_LEFT_OUT = ("deer", "frog", "ship", "truck")
PACS_DOMAINS_LEFT_OUT = ("art_painting", "sketch")
MNIST_DIGITS_LEFT_OUT = (6, 7, 8, 9)
EMOJI_STYLES_LEFT_OUT = ("blob",)
EMOJI_GROUPS_NOT_NAMED = ("food and drink", "activities")

LEFT_OUT: dict[str, Any] = {
    "rows": "of every set those with index % 5 of 3 and 4, which streams validate and test on (emoji: all styles)",
    "cifar10 classes": CIFAR_CLASSES_LEFT_OUT,
    "pacs domains": PACS_DOMAINS_LEFT_OUT,
    "emoji styles": EMOJI_STYLES_LEFT_OUT,
    "emoji groups never named": EMOJI_GROUPS_NOT_NAMED,
    "mnist classes": [DIGIT_WORDS[d] for d in MNIST_DIGITS_LEFT_OUT],
    "omniglot": "all of it",
}
USED = {
    "cifar10": "the other six classes",
    "pacs": "photos and cartoons of all classes",
    "emoji": "twemoji and noto, with names, keywords and the names of eight groups; words such as frog, ship and truck "
    "are among them, so that of these classes the photographs are new and not the words",
    "mnist": "zero to five",
    "digits": "scikit-learn's, all ten, three fifths of the rows: a stream of those may test on what was learnt from",
}


class Source(NamedTuple):
    """Pictures uint8 [N, 3, 32, 32], what each may be called, the sentences a name may stand in.

    mirrored: whether a mirror image shows the same.
    """

    images: Tensor
    names: list[list[str]]
    templates: tuple[str, ...]
    mirrored: bool


def sources(folder: Path) -> dict[str, Source]:
    """The sets to learn from, each without what is left out."""
    return {
        "cifar10": _cifar(folder),
        "pacs": _pacs(folder),
        "mnist": _mnist(folder),
        "digits": _digits(),
        "emoji": _emoji(folder),
    }


_DIGIT_TEMPLATES = (*PHOTO, *SEVERAL[1:3])


def kept(n: int) -> np.ndarray:
    """bool [n]: rows that are neither tested nor validated on."""
    return ~np.isin(np.arange(n) % 5, (VALIDATED, TESTED))


def _cifar(folder: Path) -> Source:
    data = read_arrays("cifar10_10k.npz", folder)
    names = [str(data["classes"][y]) for y in data["y"]]
    rows = kept(len(names)) & ~np.isin(names, CIFAR_CLASSES_LEFT_OUT)
    return Source(rgb(data["x"][rows], SIZE), [[names[i]] for i in rows.nonzero()[0]], SEVERAL, True)


def _pacs(folder: Path) -> Source:
    data = read_arrays("pacs.npz", folder)
    domains = data["domains"][data["domain"]]
    rows = kept(len(domains)) & ~np.isin(domains, PACS_DOMAINS_LEFT_OUT)
    return Source(rgb(data["x"][rows], SIZE), [[str(data["classes"][y])] for y in data["y"][rows]], SEVERAL, True)


def _mnist(folder: Path) -> Source:
    images, digit = read_mnist(folder)
    rows = torch.from_numpy(kept(len(digit))) & ~torch.isin(digit, torch.tensor(MNIST_DIGITS_LEFT_OUT))
    return Source(rgb(images[rows], SIZE), [_digit_names(d) for d in digit[rows].tolist()], _DIGIT_TEMPLATES, False)


def _digits() -> Source:
    digits = load_digits()
    rows = kept(len(digits.target))
    images = torch.from_numpy(digits.images[rows] * 255 / 16).round().to(torch.uint8)
    named = [_digit_names(d) for d in digits.target[rows]]
    return Source(rgb(resized(images.unsqueeze(1), SIZE).squeeze(1)), named, _DIGIT_TEMPLATES, False)


def _digit_names(digit: int) -> list[str]:
    return [DIGIT_WORDS[digit], f"number {DIGIT_WORDS[digit]}"]


def _emoji(folder: Path) -> Source:
    data = read_arrays("emoji.npz", folder)
    shown = drawn(data["x"]).numpy() & kept(data["x"].shape[1])
    shown[np.isin(data["styles"], EMOJI_STYLES_LEFT_OUT)] = False
    style, emoji = shown.nonzero()
    names = []
    for i in emoji:
        name, group = str(data["text"][i]), GROUPS[data["group"][i]]
        tags = [tag for tag in str(data["tags"][i]).split("|") if tag]
        grouped = [group] if group not in EMOJI_GROUPS_NOT_NAMED else []
        names.append([name, name, ", ".join([name, *tags[:3]]), *grouped])
    return Source(rgb(data["x"][style, emoji], SIZE), names, ("{}", *PHOTO), False)


class ZeroShot(NamedTuple):
    """Pictures [N, 3, 32, 32] to be told apart by the names of all classes; target [N] int64."""

    images: Tensor
    target: Tensor
    names: Sequence[str]


def questions(folder: Path) -> dict[str, ZeroShot]:
    """Test rows, by what of them was left out: known and unknown classes and domains."""
    return {name: read(folder) for name, read in _QUESTIONS.items()}


def _cifar_question(left_out: bool) -> Callable[[Path], ZeroShot]:
    def read(folder: Path) -> ZeroShot:
        data = read_arrays("cifar10_10k.npz", folder)
        names = [str(name) for name in data["classes"]]
        away = np.isin(data["classes"][data["y"]], CIFAR_CLASSES_LEFT_OUT)
        rows = (np.arange(len(away)) % 5 == TESTED) & (away == left_out)
        return ZeroShot(rgb(data["x"][rows], SIZE), torch.from_numpy(data["y"][rows].astype(np.int64)), names)

    return read


def _pacs_question(domain: str) -> Callable[[Path], ZeroShot]:
    def read(folder: Path) -> ZeroShot:
        data = read_arrays("pacs.npz", folder)
        rows = (np.arange(len(data["y"])) % 5 == TESTED) & (data["domains"][data["domain"]] == domain)
        target = torch.from_numpy(data["y"][rows].astype(np.int64))
        return ZeroShot(rgb(data["x"][rows], SIZE), target, [str(name) for name in data["classes"]])

    return read


def _mnist_question(left_out: bool) -> Callable[[Path], ZeroShot]:
    def read(folder: Path) -> ZeroShot:
        images, digit = read_mnist(folder)
        away = torch.isin(digit, torch.tensor(MNIST_DIGITS_LEFT_OUT))
        rows = (torch.arange(len(digit)) % 5 == TESTED) & (away == left_out)
        return ZeroShot(rgb(images[rows], SIZE), digit[rows], DIGIT_WORDS)

    return read


def _emoji_question(style: str) -> Callable[[Path], ZeroShot]:
    def read(folder: Path) -> ZeroShot:
        data = read_arrays("emoji.npz", folder)
        place = int(np.flatnonzero(data["styles"] == style)[0])
        tested = np.arange(data["x"].shape[1]) % 5 == TESTED
        rows = np.flatnonzero(drawn(data["x"]).numpy()[place] & tested)
        names = [str(data["text"][i]) for i in rows]
        return ZeroShot(rgb(data["x"][place, rows], SIZE), torch.arange(len(rows)), names)

    return read


_QUESTIONS: dict[str, Callable[[Path], ZeroShot]] = {
    "cifar10, classes learnt": _cifar_question(False),
    "cifar10, classes left out": _cifar_question(True),
    "pacs photo": _pacs_question("photo"),
    "pacs cartoon": _pacs_question("cartoon"),
    "pacs art painting (left out)": _pacs_question("art_painting"),
    "pacs sketch (left out)": _pacs_question("sketch"),
    "mnist, classes learnt": _mnist_question(False),
    "mnist, classes left out": _mnist_question(True),
    "emoji held out, twemoji": _emoji_question("twemoji"),
    "emoji held out, blob (left out)": _emoji_question("blob"),
}
