"""Handwritten digits with captions: the stream that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.data.imbalance import rotating_sets
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.text import DIGIT_TEMPLATES, DIGIT_WORDS, digit_captions, digit_tokenizer
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform

MODALITIES = ("image", "text")
# Places in the seed's tree, one per random choice.
_TEMPLATE, _NUMERAL, _MISTAKE, _NAMED = range(4)


def digits_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int | None = None,
    *,
    modalities: Sequence[str] = MODALITIES,
    caption_noise: float = 0.2,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """scikit-learn's 1,797 digits as images [1, 8, 8] in [0, 1] and captions of token ids [S].

    scenario       "cil" or "til": the ten digits dealt to ``n_tasks`` (default 5) tasks in ascending order;
                   "dil": one task per quarter turn of the images (``n_tasks`` up to 4, the default); "mdtil": as
                   "til", every task with its own modalities: the images, the captions, both, and again
    caption_noise  share of captions that name a digit drawn at random, as captions gathered from the web describe
                   something else now and then. With the default 0.2 a reader of captions alone is right in 82 % of
                   the rows (0.8 + 0.2/10), so that neither modality makes the other useless.
    modalities     which of "image" and "text" to give
    dealing        further arguments of ``Stream.from_dataset``: test, validation, task_order, missing, long_tail, …

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Repository, 1998 (its test part).
    """
    from sklearn.datasets import load_digits

    scenario = get_scenario(scenario)
    for name in modalities:
        if name not in MODALITIES:
            raise unknown_name("modality of the digits", name, MODALITIES)
    if not 0 <= caption_noise <= 1:
        raise InputError(f"caption_noise: expected a share in [0, 1], got {caption_noise}.")
    if scenario.labels == "generated":
        raise InputError(f"digits_stream: expected scenario cil, dil, til or mdtil, got {scenario.name!r}.")
    bunch = load_digits()
    image = torch.from_numpy(bunch.images).to(torch.float32).unsqueeze(1) / 16
    target = torch.from_numpy(bunch.target).to(torch.int64)
    domains = None
    if scenario.labels == "shared":
        image, target, domains = _turned(image, target, 4 if n_tasks is None else n_tasks)
    elif n_tasks is None:
        n_tasks = 5
    if scenario.modalities == "per task":
        dealing.setdefault("task_modalities", rotating_sets(modalities, whole_number("n_tasks", n_tasks)))
    columns = {"image": image, "text": _captions(target, caption_noise, seed)}
    return Stream.from_dataset(
        Records({name: columns[name] for name in modalities}, target),
        scenario=scenario,
        n_tasks=n_tasks,
        domains=domains,
        task_names=None if domains is None else [f"turned {90 * t}°" for t in range(int(domains.max()) + 1)],
        class_names=DIGIT_WORDS,
        vocabulary=len(digit_tokenizer()),
        seed=seed,
        **dealing,
    )


def _turned(image: Tensor, target: Tensor, n_tasks: int) -> tuple[Tensor, Tensor, Tensor]:
    if not 1 <= n_tasks <= 4:
        raise InputError(f"n_tasks: a digit has 4 quarter turns, so expected 1 to 4, got {n_tasks}.")
    turned = torch.cat([image.rot90(t, (2, 3)) for t in range(n_tasks)])
    return turned, target.repeat(n_tasks), torch.arange(n_tasks).repeat_interleave(len(target))


def _captions(target: Tensor, noise: float, seed: int) -> Tensor:
    index = torch.arange(len(target))

    def draw(place: int) -> Tensor:
        return hash_uniform(fold_seed(seed, place), index)

    named = torch.where(draw(_MISTAKE) < noise, (draw(_NAMED) * 10).to(torch.int64), target)
    template = (draw(_TEMPLATE) * len(DIGIT_TEMPLATES)).to(torch.int64)
    return digit_tokenizer().encode(digit_captions(named, template, draw(_NUMERAL) < 0.5))
