"""Measures of generated answers: sequences of tokens [B, S], the padding behind an answer included."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.continual import accuracy


def exact_match(answers: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of rows all of whose tokens are right, over pairs of scores [B, S, C] and targets [B, S].

    The same as ``metrics.continual.accuracy``, under the name that it has for answers. Raises InputError for no rows.
    """
    return accuracy(answers)


def token_accuracy(answers: Iterable[tuple[Tensor, Tensor]], *, pad: int = 0) -> float:
    """Share of right tokens among those of the targets that are not ``pad``, over pairs of scores and targets.

    Every token counts alike, so that a long answer counts more than a short one. Raises InputError for shapes that do
    not fit, and where no target has a token.
    """
    right = tokens = 0
    for scores, target in answers:
        if target.ndim != 2 or scores.shape[:-1] != target.shape:
            raise InputError(
                f"token accuracy: expected scores [B, S, C] and targets [B, S], got {tuple(scores.shape)} and "
                f"{tuple(target.shape)}."
            )
        counts = target != pad
        right += int(((scores.argmax(-1) == target) & counts).sum())
        tokens += int(counts.sum())
    if tokens == 0:
        raise InputError("token accuracy: expected at least one token that is no padding, got none.")
    return right / tokens
