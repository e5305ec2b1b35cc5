"""Accuracy by modality: on the rows that have it, and on the rows that have exactly one set of modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError

Answers = Iterable[tuple[Tensor, Tensor, Mapping[str, Tensor]]]


def accuracy_by_modality(answers: Answers) -> dict[str, float]:
    """Share of right rows among those that have modality m, for every m; a row with several counts for each.

    ``(scores.argmax(-1) == target)[present[m]].float().mean()``

    Args:
        answers: batches of scores [B, C], targets [B] and presence {modality: bool [B]}; with scores [B, S, C] and
            targets [B, S] a row is right when all its S positions are. Asked with rows cut down to one modality each,
            this is the accuracy by that modality alone.

    Returns:
        {modality: fraction}, modalities in the order they were met; one that no row has is left out.

    Raises:
        InputError: scores, targets and presence that do not fit each other, or no rows at all.
    """
    return _shares(answers, sets=False)


def accuracy_by_presence(answers: Answers) -> dict[str, float]:
    """Share of right rows among those with exactly this set of modalities: {"image": …, "image+text": …}.

    Every row counts once, so that a full row and one with a missing modality are never in one number. Arguments and
    errors as in :func:`accuracy_by_modality`; a row without any modality counts under "none".
    """
    return _shares(answers, sets=True)


def modality_gap(by_modality: Mapping[str, float]) -> float:
    """max − min over modalities of their accuracy: 0 where the model reads all of them equally well.

    Raises InputError for no modality.
    """
    if not by_modality:
        raise InputError("modality_gap: expected the accuracy of at least one modality, got none.")
    return max(by_modality.values()) - min(by_modality.values())


def _shares(answers: Answers, *, sets: bool) -> dict[str, float]:
    right: dict[str, int] = {}
    rows: dict[str, int] = {}
    for scores, target, present in answers:
        hits = _hits(scores, target, present)
        for name, members in _exact_sets(present) if sets else present.items():
            members = members.to(hits.device)
            rows[name] = rows.get(name, 0) + int(members.sum())
            right[name] = right.get(name, 0) + int(hits[members].sum())
    if not any(rows.values()):
        raise InputError("accuracy by modality: expected at least one row with a modality, got none.")
    return {name: right[name] / rows[name] for name in rows if rows[name]}


def _hits(scores: Tensor, target: Tensor, present: Mapping[str, Tensor]) -> Tensor:
    """Which rows are right, bool [B]."""
    if scores.shape[:-1] != target.shape or any(p.shape != target.shape[:1] for p in present.values()):
        shapes = {name: list(p.shape) for name, p in present.items()}
        raise InputError(
            f"accuracy by modality: expected scores [B, C], targets [B] and presence [B], got {list(scores.shape)}, "
            f"{list(target.shape)} and {shapes}."
        )
    # argmax takes NaN for the best.
    hits = (scores.argmax(-1) == target) & ~scores.isnan().any(-1)
    return hits.flatten(1).all(1) if hits.ndim > 1 else hits


def _exact_sets(present: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """The sets of modalities that rows of the batch have, by name, with their rows as bool [B]."""
    names = list(present)
    table = torch.stack([present[name].bool() for name in names], 1)  # [B, V]
    kinds = torch.unique(table, dim=0)
    label = ["+".join(name for name, has in zip(names, kind.tolist(), strict=True) if has) or "none" for kind in kinds]
    return [(text, (table == kind).all(1)) for text, kind in zip(label, kinds, strict=True)]
