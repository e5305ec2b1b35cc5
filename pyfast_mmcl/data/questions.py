"""Questions about pictures, answered in words: every task asks for something else, one vocabulary answers all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data.emoji import drawn
from pyfast_mmcl.data.folder import every_fifth, read_arrays
from pyfast_mmcl.data.images import pixels, rgb
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.text import DIGIT_WORDS, Tokenizer
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform, reservoir_keys

_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
_NUMBERS = (*DIGIT_WORDS, *_TEENS.split())
_ANSWER = 6  # words of an answer; emoji with longer names are not asked for
_PAIRS, _PHRASES, _PICTURES = range(3)  # places in the seed's tree

QUESTIONS: dict[str, tuple[str, ...]] = {
    "object": ("what is this", "what do you see here", "name the thing in the picture"),
    "digits": ("which digits are these", "read the digits from left to right", "what does it say"),
    "style": ("in which style is it made", "is it a photo or drawn and how", "what kind of picture is this"),
    "sum": ("what is the sum of the digits", "add the two digits", "how much is it together"),
    "description": ("describe the picture", "what is shown and in which style", "give the picture a title"),
    "emoji": ("what is this emoji called", "name the emoji", "which emoji is it"),
}


class _Asked(NamedTuple):
    """Pictures uint8 [N, 3, size, size], the answer to each, and whether it is tested on."""

    images: Tensor
    answers: list[str]
    tested: Tensor


def questions_stream(
    scenario: str | Scenario = "gdil",
    n_tasks: int | None = None,
    *,
    asked: Sequence[str] = tuple(QUESTIONS),
    rows: int = 1500,
    held_out: str = "test",
    size: int = 32,
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """Pictures [3, 32, 32] in [0, 1], questions as token ids [S] and answers of up to six words as token ids [6].

    scenario   "gdil" alone: one kind of question per task, the task id is hidden, answers are generated
    asked      kinds of questions in the order of the tasks; ``n_tasks`` takes the first ones only. About PACS:
               "object" ("dog"), "style" ("art painting"), "description" ("a sketch of a dog"); about two digits of
               MNIST side by side: "digits" ("three seven"), "sum" ("ten"); "emoji" (its English name)
    rows       questions of a task to train and test on, drawn once and for every seed alike
    held_out   "test": every fifth picture of PACS and digit of MNIST; of emoji the blob style, after training on the
               other two. "validation": these are left out and others tested on instead (of emoji the noto style)
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, missing, …
    folder     where the files lie; by default the folder named by PYFAST_MMCL_DATA

    Every question is put in one of three ways. Questions and answers have one vocabulary of some 600 words; 0 pads
    both, so that an answer ends where its first 0 stands.

    The frame, a kind of question per task, is that of VQACL, Zhang et al., CVPR 2023.
    """
    scenario = get_scenario(scenario)
    if scenario.labels != "generated":
        raise InputError(f"questions_stream: expected scenario gdil, got {scenario.name!r}.")
    for name in asked:
        if name not in QUESTIONS:
            raise unknown_name("kind of question", name, QUESTIONS)
    chosen = tuple(asked)[:n_tasks]
    if not chosen or len(set(chosen)) < len(chosen) or len(chosen) != (len(asked) if n_tasks is None else n_tasks):
        raise InputError(f"asked: expected {n_tasks or 'some'} different kinds of questions, got {list(asked)}.")
    parts = [_MAKERS[name](name, whole_number("rows", rows), size, held_out, folder) for name in chosen]
    questions = [text for name, part in zip(chosen, parts, strict=True) for text in _phrases(name, len(part.answers))]
    answers = [answer for part in parts for answer in part.answers]
    longest = max(len(phrase.split()) for phrases in QUESTIONS.values() for phrase in phrases)
    tokenizer = Tokenizer.of([*questions, *answers], longest)
    return Stream.from_dataset(
        Records(
            {"image": torch.cat([part.images for part in parts]), "question": tokenizer.encode(questions)},
            Tokenizer(tokenizer.words[2:], _ANSWER).encode(answers),
            prepare={"image": pixels},
        ),
        scenario=scenario,
        domains=torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part.answers) for part in parts])),
        test=torch.cat([part.tested for part in parts]),
        task_names=chosen,
        class_names=tokenizer.words,
        vocabulary=len(tokenizer),
        seed=seed,
        **dealing,
    )


def _phrases(name: str, n: int) -> list[str]:
    ways = QUESTIONS[name]
    draw = hash_uniform(fold_seed(0, _PHRASES, list(QUESTIONS).index(name)), torch.arange(n))
    return [ways[way] for way in (draw * len(ways)).to(torch.int64).tolist()]


def _some(n: int, rows: int, place: int) -> Tensor:
    return reservoir_keys(fold_seed(0, _PICTURES, place), torch.arange(n)).argsort()[:rows].sort().values


def _about_pacs(name: str, rows: int, size: int, held_out: str, folder: str | Path | None) -> _Asked:
    data = read_arrays("pacs.npz", folder)
    used, tested = every_fifth(len(data["y"]), held_out)
    kept = used.nonzero().flatten()
    kept = kept[_some(len(kept), rows, list(QUESTIONS).index(name))]
    things = [str(data["classes"][y]) for y in data["y"][kept.numpy()]]
    styles = [str(data["domains"][d]).replace("_", " ") for d in data["domain"][kept.numpy()]]
    answers = {"object": things, "style": styles}.get(
        name, [f"{_article(s)} {s} of {_article(t)} {t}" for s, t in zip(styles, things, strict=True)]
    )
    return _Asked(rgb(data["x"][kept.numpy()], size), answers, tested[kept])


def _about_digits(name: str, rows: int, size: int, held_out: str, folder: str | Path | None) -> _Asked:
    images, digit = read_mnist(folder)
    used, tested = every_fifth(len(digit), held_out)
    n_test = rows // 5
    pairs = []
    for side, n in ((used & ~tested, rows - n_test), (used & tested, n_test)):
        pool, place = side.nonzero().flatten(), list(QUESTIONS).index(name)
        draws = [hash_uniform(fold_seed(0, _PAIRS, place, half), torch.arange(n)) for half in range(2)]
        pairs.append(pool[(torch.stack(draws, 1) * len(pool)).to(torch.int64)])
    pair = torch.cat(pairs)
    both = torch.cat([images[pair[:, 0]], images[pair[:, 1]]], 2)
    square = pad(both, (0, 0, both.shape[1] // 2, both.shape[1] // 2))
    left, right = digit[pair].unbind(1)
    answers = [DIGIT_WORDS[a] + " " + DIGIT_WORDS[b] for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    if name == "sum":
        answers = [_NUMBERS[total] for total in (left + right).tolist()]
    return _Asked(rgb(square, size), answers, torch.arange(len(pair)) >= rows - n_test)


def _about_emoji(name: str, rows: int, size: int, held_out: str, folder: str | Path | None) -> _Asked:
    data = read_arrays("emoji.npz", folder)
    names = [str(text).lower() for text in data["text"]]
    short = torch.tensor([len(text.split()) <= _ANSWER for text in names])
    valid = drawn(data["x"]) & short
    tested = list(data["styles"]).index("blob" if held_out == "test" else "noto")
    used = [s for s in range(len(data["styles"])) if held_out == "test" or data["styles"][s] != "blob"]
    complete = valid[used].all(0).nonzero().flatten()
    kept = complete[_some(len(complete), rows // len(used), list(QUESTIONS).index(name))]
    style = torch.tensor(used).repeat_interleave(len(kept))
    emoji = kept.repeat(len(used))
    images = np.ascontiguousarray(data["x"][style.numpy(), emoji.numpy()])
    return _Asked(rgb(images, size), [names[e] for e in emoji.tolist()], style == tested)


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


_MAKERS: dict[str, Callable[[str, int, int, str, str | Path | None], _Asked]] = {
    "object": _about_pacs,
    "digits": _about_digits,
    "style": _about_pacs,
    "sum": _about_digits,
    "description": _about_pacs,
    "emoji": _about_emoji,
}
