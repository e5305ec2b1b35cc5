"""What rows lack: modalities per row, per task or at test, and the rows of rare classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data.order import in_order
from pyfast_mmcl.data.records import Records, RowRecords
from pyfast_mmcl.data.scenario import Scenario
from pyfast_mmcl.data.split import rank_in_group
from pyfast_mmcl.ops.sampling import fold_seed, hash_uniform, reservoir_keys

Missing = Mapping[str, float | Sequence[float]]

# Places in the seed's tree, beside those of split.py and order.py.
_MISSING, _TAIL, _RANK = 2, 4, 5


def modality_sets(
    scenario: Scenario, sets: Sequence[Sequence[str]] | None, modalities: tuple[str, ...], order: Tensor
) -> list[Sequence[str]] | None:
    """The modality set of every task, in the order of the tasks; None where every task has all of them."""
    if (sets is not None) != (scenario.modalities == "per task"):
        raise InputError(
            f"task_modalities: scenario {scenario.name!r} has modalities {scenario.modalities!r}; "
            f"{'give one set per task' if sets is None else 'leave it out'}."
        )
    if sets is None:
        return None
    for chosen in sets:
        if not chosen or isinstance(chosen, str):
            raise InputError(f"task_modalities: expected a list of modalities per task, got {chosen!r}.")
    for name in {name for chosen in sets for name in chosen}:
        if name not in modalities:
            raise unknown_name("modality", name, modalities)
    return in_order("task_modalities", sets, order)


def rotating_sets(modalities: Sequence[str], n_tasks: int) -> list[tuple[str, ...]]:
    """A modality set for each of n tasks: every modality alone, then all together, and again."""
    turns = [*((name,) for name in modalities), tuple(modalities)]
    return [turns[t % len(turns)] for t in range(n_tasks)]


def drop_modalities(
    records: Records | RowRecords,
    task_of: Tensor,
    test: Tensor,
    order: Tensor,
    sets: Sequence[Sequence[str]] | None,
    missing: Missing | None,
    missing_at_test: Missing | None,
    seed: int,
) -> dict[str, Tensor]:
    """Presence masks {modality: bool [N]} after the sets of the tasks and the shares of rows without a modality.

    test bool [N]: the rows that ``missing_at_test`` is about. A row always keeps at least one modality.
    """
    shares = _shares("missing", missing, records.modalities, order)
    at_test = shares if missing_at_test is None else {}
    if missing_at_test is not None:
        at_test = _shares("missing_at_test", missing_at_test, records.modalities, order)
    n, task = len(records), task_of.clamp(min=0)
    if sets is None and not shares and not at_test:
        return {}
    shown = {name: torch.ones(n, dtype=torch.bool) for name in records.modalities}
    if isinstance(records, Records):
        shown = {name: mask.clone() for name, mask in records.present.items()}
    if sets is not None:
        for name in shown:
            shown[name] &= torch.tensor([name in chosen for chosen in sets])[task]
    kept = {name: mask.clone() for name, mask in shown.items()}
    none = torch.zeros(len(order))
    for place, name in enumerate(records.modalities):
        if name in shares or name in at_test:
            share = torch.where(test, at_test.get(name, none)[task], shares.get(name, none)[task])
            kept[name] &= hash_uniform(fold_seed(seed, _MISSING, place), torch.arange(n)) >= share
    nothing = ~torch.stack(list(kept.values())).any(0)
    for name in shown:
        # A row that would lose everything keeps its first modality.
        kept[name] |= nothing & shown[name]
        nothing &= ~shown[name]
    return {name: mask for name, mask in kept.items() if not bool(mask.all())}


def long_tail_rows(
    group: Tensor, target: Tensor, train: Tensor, long_tail: float | Sequence[float] | None, seed: int
) -> Tensor:
    """bool [N]: the training rows that stay, class c keeping a share s_c of its rows in every task, at least one.

    s_c = ρ^(−r_c / (C − 1)) for a number ρ = ``long_tail``, the ratio of the most frequent to the rarest class, with
    the ranks r_c drawn by the seed; or s_c itself as a list [C]. Rows that are not trained on stay as they are.

    Reference: Cao et al., NeurIPS 2019 (the exponential profile); Liu et al., *Long-Tailed Class Incremental Learning*,
    ECCV 2022 (ranks shuffled over the tasks).
    """
    if long_tail is None:
        return torch.ones_like(train)
    if target.ndim > 1:
        raise InputError("long_tail: generated answers have no classes to be rare; leave it out.")
    share = _class_shares(long_tail, int(target.max()) + 1, seed)
    rank, size = rank_in_group(2 * group + train, reservoir_keys(fold_seed(seed, _TAIL), torch.arange(len(group))))
    return ~train | (rank < (size * share[target]).round().clamp(min=1))


def _class_shares(long_tail: float | Sequence[float], n_classes: int, seed: int) -> Tensor:
    if isinstance(long_tail, int | float) and not isinstance(long_tail, bool):
        if not 1 <= long_tail < float("inf"):
            raise InputError(f"long_tail: expected a ratio of at least 1, got {long_tail}.")
        rank = reservoir_keys(fold_seed(seed, _RANK), torch.arange(n_classes)).argsort().argsort()
        return float(long_tail) ** (-rank.to(torch.float64) / max(1, n_classes - 1))
    try:
        share = torch.as_tensor(long_tail, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"long_tail: expected a number, or a share per class, got {long_tail!r}.") from error
    if share.shape != (n_classes,) or not bool(((share > 0) & (share <= 1)).all()):
        raise InputError(f"long_tail: expected a number, or a share in (0, 1] for each of {n_classes} classes.")
    return share


def _shares(name: str, missing: Missing | None, modalities: tuple[str, ...], order: Tensor) -> dict[str, Tensor]:
    """{modality: [T]} shares in the order of the tasks."""
    shares = {}
    if missing is not None and not isinstance(missing, Mapping):
        raise InputError(f"{name}: expected {{modality: share of rows without it}} or None, got {missing!r}.")
    for modality, given in (missing or {}).items():
        if modality not in modalities:
            raise unknown_name("modality", modality, modalities)
        if isinstance(given, str) or not (isinstance(given, int | float) or hasattr(given, "__iter__")):
            raise InputError(f"{name}: expected a share in [0, 1] for {modality!r}, or one per task, got {given!r}.")
        values = [given] * len(order) if isinstance(given, int | float) else list(given)
        for share in values:
            if not isinstance(share, int | float) or not 0 <= share <= 1:
                raise InputError(f"{name}: expected a share in [0, 1] for {modality!r}, got {share!r}.")
        if len(values) != len(order):
            raise InputError(f"{name}: expected one share or {len(order)}, one per task, got {len(values)}.")
        shares[modality] = torch.tensor(values, dtype=torch.float64)[order]
    return shares
