"""A stream: the examples of a dataset dealt out to a sequence of tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data.imbalance import Missing, drop_modalities, long_tail_rows, modality_sets
from pyfast_mmcl.data.loader import Loader
from pyfast_mmcl.data.order import Order, in_order, permutation
from pyfast_mmcl.data.records import Records, RowRecords, blank
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.split import deal_classes, deal_domains, join, split_rows, split_targets
from pyfast_mmcl.ops.sampling import fold_seed

SPLITS = ("train", "validation", "test")
OBJECTIVES = ("classify", "pairs")


@dataclass(frozen=True)
class Task:
    """What a method may know about a task: its place, name, classes, modalities and number of training rows."""

    id: int
    name: str
    classes: tuple[int, ...]
    modalities: tuple[str, ...]
    n_train: int


class Stream:
    """T tasks over one set of records; row numbers are the global example ids.

    Built by :meth:`from_dataset`. ``task_of`` [N] and ``split_of`` [N] hold the task (−1: unused) and the position in
    ``SPLITS`` (−1: unused) of every row, ``present`` {modality: bool [N]} narrows the presence given by the records.

    ``objective`` says what is learnt and measured: "classify", the target of each row; or "pairs", which row of one
    modality belongs to which of the other (rows with the same target belong together).
    """

    def __init__(
        self,
        records: Records | RowRecords,
        scenario: Scenario,
        task_of: Tensor,
        split_of: Tensor,
        *,
        present: Mapping[str, Tensor] | None = None,
        task_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        vocabulary: int | None = None,
        objective: str = "classify",
    ) -> None:
        if objective not in OBJECTIVES:
            raise unknown_name("objective", objective, OBJECTIVES)
        if objective == "pairs" and len(records.modalities) < 2:
            raise InputError(f"objective: pairs need two modalities, got {list(records.modalities)}; choose classify.")
        self.scenario = scenario
        self.objective = objective
        self.modalities = records.modalities
        self.vocabulary = vocabulary
        self.task_of = task_of
        self.n_tasks = int(task_of.max()) + 1
        self._split_of = split_of
        self._records = records
        self._present = dict(present or {})
        self.n_classes = int(records.target.max()) + 1
        if isinstance(class_names, str) or not (class_names is None or hasattr(class_names, "__iter__")):
            raise InputError(f"class_names: expected a list of {self.n_classes} names or None, got {class_names!r}.")
        self.class_names = tuple(class_names or map(str, range(self.n_classes)))
        if len(self.class_names) < self.n_classes:
            raise InputError(f"class_names: expected {self.n_classes} names, got {len(self.class_names)}.")
        self.n_classes = len(self.class_names)
        self.tasks = [self._describe(t, task_names) for t in range(self.n_tasks)]

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        *,
        scenario: str | Scenario = "cil",
        n_tasks: int | None = None,
        classes: Sequence[Sequence[int]] | None = None,
        domains: Tensor | Sequence[int] | None = None,
        test: Any = 0.2,
        validation: Any = 0.0,
        task_order: Order = None,
        class_order: Order = None,
        task_names: Sequence[str] | None = None,
        task_modalities: Sequence[Sequence[str]] | None = None,
        missing: Missing | None = None,
        missing_at_test: Missing | None = None,
        long_tail: float | Sequence[float] | None = None,
        class_names: Sequence[str] | None = None,
        vocabulary: int | None = None,
        objective: str = "classify",
        seed: int = 0,
    ) -> Stream:
        """Deal a dataset of modality dictionaries out to tasks.

        dataset          any indexable of {modality: …, "target": label}, or Records (columns in memory)
        scenario         name, title or Scenario; "disjoint" labels are dealt by class, all others by domain
        n_tasks, classes number of tasks for an even deal of the ascending classes, or the classes of every task
        domains          [N] domain of each row (of dataset and test dataset); one task per domain, in ascending order
        test             share of rows per task and class (pairs: of targets), bool [N], row numbers, or another dataset
        validation       share of the training rows of each task and class to validate on, or bool [N] / row numbers
        task_order       "reversed", "shuffled" (by the seed) or a permutation of the tasks
        class_order      the same for the classes before an even deal
        task_names, task_modalities
                         one per task, before the permutation; modality sets where the scenario says "per task"
        missing          {modality: share of rows without it, or one share per task (before the permutation)}; a row
                         always keeps at least one modality
        missing_at_test  the same for test rows alone (default: as ``missing``)
        long_tail        ratio of the most frequent to the rarest class in training, or shares [C] (``long_tail_rows``)
        vocabulary       number of token ids, where a modality is text
        objective        "classify", or "pairs" for retrieval between modalities
        seed             decides splits and missing modalities by hashing (seed, row): independent of all else

        Raises InputError for empty or contradictory choices.
        """
        scenario = get_scenario(scenario)
        records, test_rows = join(dataset, test)
        if scenario.labels == "generated" and records.target.ndim != 2:
            raise InputError(f"target: generated answers are token ids [N, S], got {tuple(records.target.shape)}.")
        if scenario.labels == "disjoint":
            task_of = deal_classes(records.target, n_tasks, classes, class_order, seed)
        else:
            task_of = deal_domains(len(records), n_tasks, domains)
        order = permutation("task_order", task_order, int(task_of.max()) + 1, seed)
        task_of = torch.where(task_of >= 0, order.argsort()[task_of], task_of)
        sets = modality_sets(scenario, task_modalities, records.modalities, order)
        group = _strata(task_of, records.target)
        if objective == "pairs" and test_rows is None and isinstance(validation, int | float):
            split_of = split_targets(records.target, task_of, test, validation, seed)
        else:
            split_of = split_rows(group, test_rows, test, validation, seed)
        kept = long_tail_rows(group, records.target, split_of == SPLITS.index("train"), long_tail, seed)
        is_test = split_of == SPLITS.index("test")
        return cls(
            records,
            scenario,
            task_of,
            torch.where(kept, split_of, -1),
            present=drop_modalities(records, task_of, is_test, order, sets, missing, missing_at_test, seed),
            task_names=None if task_names is None else in_order("task_names", task_names, order),
            class_names=class_names,
            vocabulary=vocabulary,
            objective=objective,
        )

    def loader(
        self,
        task: int,
        split: str = "train",
        *,
        seen: bool = False,
        batch_size: int = 32,
        seed: int | None = None,
        epoch: int = 0,
    ) -> Loader:
        """Batches of one task, or of all tasks up to it with ``seen``.

        ``seed=None`` keeps the order of the example ids; otherwise the order depends on (seed, task, epoch) alone.
        Outside training the task id of the rows is −1 where the scenario hides it.
        """
        hide = split != "train" and not self.scenario.task_id_at_test
        rows = self.rows(task, split, seen=seen)
        return Loader(
            self,
            rows,
            batch_size=batch_size,
            seed=None if seed is None else fold_seed(seed, task),
            epoch=epoch,
            hide_task=hide,
        )

    def rows(self, task: int, split: str = "train", *, seen: bool = False) -> Tensor:
        """Global example ids [n] of a split of one task, or of all tasks up to it, in ascending order."""
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if not 0 <= task < self.n_tasks:
            raise InputError(f"task: expected 0 to {self.n_tasks - 1}, got {task}.")
        mine = (self.task_of <= task) & (self.task_of >= 0) if seen else self.task_of == task
        return (mine & (self._split_of == SPLITS.index(split))).nonzero().flatten()

    def gather(self, rows: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Inputs, presence and target of ``rows`` [B], after the modalities this stream hides."""
        inputs, present, target = self._records.gather(rows)
        for name, mask in self._present.items():
            present[name] = present[name] & mask[rows]
            inputs[name] = blank(inputs[name], present[name])
        return inputs, present, target

    @property
    def task_classes(self) -> Tensor:
        """bool [T, C]: the classes of every task."""
        table = torch.zeros(len(self.tasks), self.n_classes, dtype=torch.bool)
        for task in self.tasks:
            table[task.id, list(task.classes)] = True
        return table

    def fingerprint(self) -> str:
        """A hash of scenario, labels, tasks, splits, presence and a few rows: checkpoints resume on the same stream."""
        n = len(self.task_of)
        inputs, present, _ = self.gather(torch.arange(0, n, max(1, n // 64)))
        columns = [self._records.target, self.task_of, self._split_of, *self._present.values()]
        digest = hashlib.sha256(repr((self.scenario, self.objective, self.n_classes, sorted(inputs))).encode())
        for column in (*columns, *inputs.values(), *present.values()):
            digest.update(repr((column.dtype, tuple(column.shape))).encode())
            digest.update(column.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _describe(self, task: int, names: Sequence[str] | None) -> Task:
        rows = self.rows(task, "train")
        for split in ("train", "test"):
            if len(self.rows(task, split)) == 0:
                raise InputError(f"stream: task {task} has no {split} rows; change the split or the number of tasks.")
        classes = tuple(self._records.target[self.task_of == task].unique().tolist())
        known = {**(self._records.present if isinstance(self._records, Records) else {}), **self._present}
        shown = tuple(m for m in self.modalities if m not in known or bool(known[m][rows].any()))
        if not shown:
            raise InputError(
                f"stream: no training row of task {task} has a modality that the task has; change task_modalities."
            )
        return Task(task, names[task] if names else self._task_name(task, classes), classes, shown, len(rows))

    def _task_name(self, task: int, classes: tuple[int, ...]) -> str:
        if self.scenario.labels == "disjoint" and len(classes) <= 4:
            return " ".join(self.class_names[c] for c in classes)
        return f"task {task + 1}"


def _strata(task_of: Tensor, target: Tensor) -> Tensor:
    """Group of every row [N] within which splits are drawn: (task, class), or the task alone for sequences."""
    return task_of if target.ndim > 1 else task_of * (int(target.max()) + 1) + target
