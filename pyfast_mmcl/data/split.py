"""Who gets which row: tasks by class or domain, splits by hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.data.order import Order, permutation
from pyfast_mmcl.data.records import Records, RowRecords, as_records
from pyfast_mmcl.ops.sampling import fold_seed, reservoir_keys

_TRAIN, _VALIDATION, _TEST = 0, 1, 2
# Place of the splits in the seed's tree, apart from those of order.py and imbalance.py.
_SPLIT = 1


def join(dataset: Any, test: Any) -> tuple[Records | RowRecords, Tensor | None]:
    """One set of records and the rows given as test (bool [N]), or None when ``test`` is a share."""
    records = as_records(dataset)
    if isinstance(test, float | int) and not isinstance(test, bool):
        return records, None
    if isinstance(test, Tensor | np.ndarray | Sequence) and not isinstance(test, Records) and _is_row_choice(test):
        return records, _row_mask("test", test, len(records))
    other = as_records(test)
    if set(other.modalities) != set(records.modalities):
        raise InputError(f"test: expected modalities {sorted(records.modalities)}, got {sorted(other.modalities)}.")
    chosen = torch.arange(len(records) + len(other)) >= len(records)
    return _concat(records, other), chosen


def deal_classes(
    target: Tensor,
    n_tasks: int | None,
    classes: Sequence[Sequence[int]] | None,
    class_order: Order = None,
    seed: int = 0,
) -> Tensor:
    """Task of every row [N] by its class; −1 for classes that no task has. ``class_order`` is for an even deal."""
    if target.ndim > 1:
        raise InputError("stream: disjoint labels need one class per row, got sequences; choose generated labels.")
    seen = target.unique()
    if (n_tasks is None) == (classes is None):
        raise InputError("stream: give either n_tasks or classes, the list of classes of every task.")
    if n_tasks is not None:
        if whole_number("n_tasks", n_tasks, least=None) < 1 or n_tasks > len(seen):
            raise InputError(f"n_tasks: expected 1 to {len(seen)}, the number of classes, got {n_tasks}.")
        dealt = seen[permutation("class_order", class_order, len(seen), seed)]
        classes = [part.tolist() for part in torch.tensor_split(dealt, n_tasks)]
    elif class_order is not None:
        raise InputError("class_order: the classes of every task are given; leave one of the two out.")
    assert classes is not None
    task_of_class = torch.full((int(seen[-1]) + 1,), -1)
    for task, members in enumerate(classes):
        for label in members:
            if label not in seen or task_of_class[label] >= 0:
                why = "no row has it" if label not in seen else "another task has it already"
                raise InputError(f"classes: class {label} of task {task} cannot be dealt, {why}.")
            task_of_class[label] = task
    return task_of_class[target]


def deal_domains(n: int, n_tasks: int | None, domains: Tensor | Sequence[int] | None) -> Tensor:
    """Task of every row [N]: one task per distinct domain, in ascending order."""
    if domains is None:
        raise InputError("stream: this scenario deals rows by domain; give domains [N], the domain of every row.")
    try:
        domains = torch.as_tensor(domains)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"domains: expected a number per row, got {type(domains).__name__} ({error}).") from error
    if domains.shape != (n,):
        raise InputError(f"domains: expected one per row, shape ({n},), got {tuple(domains.shape)}.")
    found, task_of = domains.unique(return_inverse=True)
    if n_tasks is not None and n_tasks != len(found):
        raise InputError(f"n_tasks: expected {len(found)}, the number of domains, got {n_tasks}; leave it out.")
    return task_of


def split_rows(group: Tensor, test_rows: Tensor | None, test: Any, validation: Any, seed: int) -> Tensor:
    """Split of every row (0 train, 1 validation, 2 test), the shares taken within each group [N] by hash order."""
    chosen = None if isinstance(validation, float | int) else _row_mask("validation", validation, len(group))
    validation = validation if chosen is None else 0.0
    for name, share in (("test", test if test_rows is None else 0.0), ("validation", validation)):
        if not 0 <= share < 1:
            raise InputError(f"{name}: expected a share in [0, 1), got {share}.")
    share = 0.0 if test_rows is not None else float(test)
    if test_rows is not None:
        group = 2 * group + test_rows
    rank, size = rank_in_group(group, reservoir_keys(fold_seed(seed, _SPLIT), torch.arange(len(group))))
    n_test = (size * share).round()
    n_validation = ((size - n_test) * validation).round()
    split = torch.where(rank < n_test, _TEST, torch.where(rank < n_test + n_validation, _VALIDATION, _TRAIN))
    if chosen is not None:
        if test_rows is not None and bool((chosen & test_rows).any()):
            raise InputError("validation: some of these rows are test rows; keep the two apart.")
        split = torch.where(chosen & (split == _TRAIN), _VALIDATION, split)
    return split if test_rows is None else torch.where(test_rows, _TEST, split)


def split_targets(target: Tensor, task_of: Tensor, test: Any, validation: Any, seed: int) -> Tensor:
    """As ``split_rows`` with a share of the targets of each task: rows of one target are on one side, in every task."""
    _, inverse = target.unique(return_inverse=True)
    row = torch.arange(len(target))
    first = torch.full((int(inverse.max()) + 1,), len(target)).scatter_reduce(0, inverse, row, "amin")
    return split_rows(task_of[first], None, test, validation, seed)[inverse]


def rank_in_group(group: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Position of every row within its group by descending key, and the size of its group."""
    _, group, count = group.unique(return_inverse=True, return_counts=True)
    order = keys.argsort(descending=True)
    order = order[group[order].argsort(stable=True)]
    start = count.cumsum(0) - count
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order)) - start[group[order]]
    return rank, count[group]


def _is_row_choice(test: Any) -> bool:
    return isinstance(test, Tensor | np.ndarray) or all(isinstance(row, int) for row in test)


def _row_mask(name: str, rows: Any, n: int) -> Tensor:
    try:
        chosen = torch.as_tensor(rows)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected a share, bool [{n}] or row numbers, got {type(rows).__name__}.") from error
    if chosen.dtype == torch.bool and chosen.shape == (n,):
        return chosen
    if chosen.dtype == torch.bool or chosen.ndim != 1 or (chosen.is_floating_point() and len(chosen)):
        raise InputError(
            f"{name}: expected bool [{n}] or row numbers, got {chosen.dtype} of shape {tuple(chosen.shape)}."
        )
    if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < n:
        raise InputError(
            f"{name}: expected row numbers from 0 to {n - 1}, got {int(chosen.min())} to {int(chosen.max())}."
        )
    mask = torch.zeros(n, dtype=torch.bool)
    mask[chosen.to(torch.int64)] = True
    return mask


def _concat(a: Records | RowRecords, b: Records | RowRecords) -> Records | RowRecords:
    target = torch.cat([a.target, b.target])
    if isinstance(a, Records) and isinstance(b, Records) and a.prepare == b.prepare:
        columns = {name: torch.cat([a.columns[name], b.columns[name]]) for name in a.columns}
        present = {m: torch.cat([a.present[m], b.present[m]]) for m in a.columns}
        return Records(columns, target, present=present, prepare=a.prepare)
    datasets: list[Any] = [r if isinstance(r, Records) else r.dataset for r in (a, b)]
    return RowRecords(ConcatDataset(datasets), target=target)
