"""Streams of a user's own examples: a table with a column per modality, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data import roles
from pyfast_mmcl.data.columns import Column, make_columns
from pyfast_mmcl.data.files import Shapes
from pyfast_mmcl.data.order import Order
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.split import deal_classes
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.table import Table, read_table
from pyfast_mmcl.data.table_records import TableRecords
from pyfast_mmcl.data.tokenize import TextEncoder, Tokenize

# Cells [N], what sentences call the rows [N], and the name of their column.
Role = tuple[Sequence[Any], Sequence[str], str]

_TASKS = 5
# Arguments of ``Stream.from_dataset`` that decide which rows are tested on.
_OF_SPLIT = ("n_tasks", "classes", "domains", "test", "validation", "class_order", "task_order", "objective")
KEEP = 2**30
_NO_TARGET = "no column is called target, label, class or answer; name the one that is to be learnt with target=."


def manifest_stream(
    path: str | Path,
    scenario: str | Scenario | None = None,
    n_tasks: int | None = None,
    *,
    target: str | None = None,
    task: str | None = None,
    split: str | None = None,
    modalities: Sequence[str] | None = None,
    root: str | Path | None = None,
    image_size: int = 32,
    audio_seconds: float = 1.0,
    tokenize: Tokenize = "words",
    length: int = 16,
    keep: int = KEEP,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """The examples of a .csv, .tsv, .json or .jsonl file: one row each, one column per modality.

    target     column of the class: a name or a whole number; found when called target, label, class or answer
    task       column of the task or domain, found when called so. Without it the classes are dealt to ``n_tasks``
               (default 5) tasks
    split      column of train, validation or test, found when called split. Without it a fifth of the rows is tested on
    scenario   None: "dil" where tasks share classes, else "cil". "gdil": the target is a text to be generated.
               "mdtil": the modalities of a task are those that its rows have
    modalities columns to use, default: all that are neither target, task nor split
    root       folder of relative file names; default: that of the manifest
    keep       bytes of files that are read once and kept; more are read anew for every batch
    dealing    further arguments of ``Stream.from_dataset``: missing, long_tail, objective, validation, …

    Every other column is a modality, of the kind its cells tell or its header names ("photo:image"): pictures become
    [3, image_size, image_size] in [0, 1]; WAV files log-mel spectrograms [40, frames] of ``audio_seconds``; .npy files
    and lists of numbers keep their shape, numbers in columns "imu.x", "imu.y", … are one vector "imu"; everything else
    is text, ``length`` token ids of ``tokenize`` (``tokenize.TextEncoder``; "words" are those of all
    rows trained on). Sound, arrays and numbers have mean 0 and standard deviation 1 over the rows trained on, of all
    tasks (``TableRecords.set_units``). An empty cell is a missing modality.

    With ``objective="pairs"`` a target is not needed: rows with the same text belong together.

    Raises InputError, which says the line, for anything that cannot be read.
    """
    table = read_table(path)
    if root is not None:
        table = Table(table.columns, table.where, Path(root))
    shapes = Shapes(image_size, audio_seconds)
    columns = {"target": target, "task": task, "split": split}
    options = {"tokenize": tokenize, "length": length, "keep": keep, "seed": seed, **dealing}
    return table_stream(table, scenario, n_tasks, columns, shapes, modalities=modalities, **options)


def table_stream(
    table: Table,
    scenario: str | Scenario | None,
    n_tasks: int | None,
    columns: Mapping[str, str | None],
    shapes: Shapes,
    *,
    modalities: Sequence[str] | None = None,
    **options: Any,
) -> Stream:
    """The stream of a table; ``columns`` names those of target, task and split, None where they are to be found."""
    role = {name: roles.find_column(name, given, list(table.columns)) for name, given in columns.items()}
    cells = {name: (table.columns[c], table.where, c) for name, c in role.items() if c is not None}
    shown = table.without(c for c in role.values() if c)
    left = choose(shown, modalities)
    if not left:
        raise InputError("the table has no column of a modality; add one beside target, task and split.")
    made = make_columns(left, table.where, table.folder, shapes)
    _refuse_empty_rows(shown, table.where)
    return columns_stream(made, cells, scenario, n_tasks, **options)


def choose(columns: dict[str, Any], modalities: Sequence[str] | None) -> dict[str, Any]:
    """The columns of the modalities named: "photo" is "photo:image", "imu" is "imu.x" and "imu.y"; None: all."""
    if modalities is None:
        return columns
    chosen: dict[str, Any] = {}
    for name in [modalities] if isinstance(modalities, str) else modalities:
        found = [h for h in columns if name in (h, h.partition(":")[0].strip(), h.partition(".")[0])]
        if not found:
            raise unknown_name("column for modalities=", name, columns)
        chosen |= {header: columns[header] for header in found}
    return chosen


def columns_stream(
    modalities: Sequence[Column],
    cells: Mapping[str, Role],
    scenario: str | Scenario | None,
    n_tasks: int | None,
    *,
    class_names: Sequence[str] | None = None,
    tokenize: Tokenize = "words",
    length: int = 16,
    keep: int = KEEP,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """The stream of columns and the cells of "target", "task" and "split", as many of them as there are.

    class_names: of targets that are class numbers already.
    """
    n = len(modalities[0].present)
    if "split" in cells:
        chosen = roles.splits(*cells["split"])
        dealing = {"test": chosen["test"], "validation": chosen["validation"], **dealing}
    generated = scenario is not None and get_scenario(scenario).labels == "generated"
    answers = roles.words(*cells["target"]) if generated and "target" in cells else []
    if generated:
        # Which rows are tested on does not depend on the ids of the answers, and the ids depend on it.
        target, class_names = torch.zeros((n, 1), dtype=torch.int64), None
    elif class_names is not None:
        target = torch.tensor(roles.numbers(*cells["target"], len(class_names)))
    else:
        target, class_names = _classes(cells.get("target"), modalities, dealing.get("objective"))
    dealt = _dealt(scenario, n_tasks, target, class_names, cells.get("task"))
    texts = [(column.texts, column.present) for column in modalities if column.kind == "text"]
    if generated:
        texts.append((answers, torch.ones(n, dtype=torch.bool)))
    training = ~_tested(target, {**dealt, **dealing}, seed) if texts else None
    encoder = TextEncoder(tokenize, [] if training is None else _training_texts(texts, training))
    for column in modalities:
        if column.kind == "text":
            column.values = encoder.encode(column.texts, length)
    if generated:
        target, class_names = _answers(answers, encoder)
    if dealt["scenario"].modalities == "per task" and "task_modalities" not in dealing:
        dealt["task_modalities"] = _modalities_of_tasks(modalities, target, dealt, dealing.get("class_order"), seed)
    rows = TableRecords(modalities, target, keep)
    stream = Stream.from_dataset(
        rows.records,
        class_names=class_names,
        vocabulary=encoder.vocabulary if texts else None,
        seed=seed,
        **{**dealt, **dealing},
    )
    rows.set_units(torch.cat([stream.rows(t) for t in range(stream.n_tasks)]).sort().values)
    return stream


def _tested(target: Tensor, dealing: Mapping[str, Any], seed: int) -> Tensor:
    """bool [N]: the rows that the stream of these arguments tests on, found before texts have token ids."""
    columns = {name: torch.zeros(len(target), 1) for name in ("a", "b")}
    split = {name: dealing[name] for name in _OF_SPLIT if name in dealing}
    scenario = replace(dealing["scenario"], modalities="all")
    stream = Stream.from_dataset(Records(columns, target), **{**split, "scenario": scenario, "seed": seed})
    tested = torch.zeros(len(target), dtype=torch.bool)
    tested[torch.cat([stream.rows(t, "test") for t in range(stream.n_tasks)])] = True
    return tested


def _training_texts(columns: Sequence[tuple[list[str], Tensor]], training: Tensor) -> list[str]:
    return [
        text for texts, present in columns for text, p in zip(texts, (present & training).tolist(), strict=True) if p
    ]


def _classes(target: Role | None, modalities: Sequence[Column], objective: Any) -> tuple[Tensor, list[str] | None]:
    """Classes [N] and their names; for pairs without a target, rows of the same text are one class."""
    if target is None:
        texts = next((column.texts for column in modalities if column.kind == "text"), None)
        if objective != "pairs" or texts is None:
            raise InputError(_NO_TARGET)
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        return torch.tensor([place[text] for text in texts]), None
    labels, names = roles.labels(*target)
    if len(names) < 2:
        raise InputError(f"column {target[2]!r} holds one class, {names[0]!r}; there is nothing to tell apart.")
    return labels, names


def _answers(answers: list[str], encoder: TextEncoder) -> tuple[Tensor, list[str] | None]:
    if not answers:
        raise InputError(_NO_TARGET)
    ids = encoder.encode(answers, max(len(answer.split()) for answer in answers))
    return ids, None if encoder.words is None else list(encoder.words)


def _dealt(
    scenario: str | Scenario | None,
    n_tasks: int | None,
    target: Tensor,
    class_names: Sequence[str] | None,
    task: Role | None,
) -> dict[str, Any]:
    """The arguments of ``Stream.from_dataset`` that say which row is in which task."""
    if task is None:
        chosen = get_scenario(scenario or "cil")
        if chosen.labels != "disjoint":
            raise InputError(f"scenario {chosen.name!r} needs a column task or domain; add one or name it with task=.")
        n_classes = int(target.max()) + 1
        return {"scenario": chosen, "n_tasks": min(_TASKS, max(1, n_classes // 2)) if n_tasks is None else n_tasks}
    of_row, names = roles.tasks(*task)
    if n_tasks is not None and n_tasks != len(names):
        raise InputError(f"column {task[2]!r} has {len(names)} tasks, got n_tasks={n_tasks}; leave n_tasks out.")
    shared = target.ndim == 1 and roles.share_classes(target, of_row)
    chosen = get_scenario(scenario or ("dil" if shared else "cil"))
    if chosen.labels != "disjoint":
        return {"scenario": chosen, "domains": of_row, "task_names": names}
    shown = class_names or [str(i) for i in range(int(target.max()) + 1)]
    return {
        "scenario": chosen,
        "classes": roles.classes_of_tasks(target, of_row, shown, names),
        "task_names": names,
    }


def _modalities_of_tasks(
    modalities: Sequence[Column], target: Tensor, dealt: Mapping[str, Any], class_order: Order, seed: int
) -> list[list[str]]:
    """The modalities that some row of each task has."""
    task_of = deal_classes(target, dealt.get("n_tasks"), dealt.get("classes"), class_order, seed)
    rows = [task_of == t for t in range(int(task_of.max()) + 1)]
    return [[column.name for column in modalities if bool((column.present & mine).any())] for mine in rows]


def _refuse_empty_rows(columns: Mapping[str, Sequence[Any]], where: Sequence[str]) -> None:
    """Raise InputError for a row of which nothing is known but its class."""
    for place, *cells in zip(where, *columns.values(), strict=True):
        if all(cell is None for cell in cells):
            raise InputError(f"{place}: the cell of every modality is empty; fill one in or leave the row out.")
