"""What the ranks of a shared memory do in its tests."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory import Memory
from tests.train.memory_rows import rows


class Plan(NamedTuple):
    """Calls of ``add``: the ids that every rank offers in each, and the modalities that it has."""

    policy: str
    calls: tuple[tuple[tuple[int, ...], ...], ...]  # [call][rank] → ids
    modalities: tuple[tuple[str, ...], ...] = (("image", "text"),)  # by call and rank in turn
    memory: tuple[tuple[str, Any], ...] = (("capacity", 9),)
    update: bool = False


def columns(index):
    """Extras and hints of rows, from their ids."""
    value = (index * 7 % 11).float() + 1
    features = torch.stack([torch.sin(index * k).float() for k in (1.0, 2.0, 3.0)], 1)
    return {"priority": value, "logits": value[:, None] * 3, "level": index.short()}, {
        "weight": value,
        "features": features,
    }


def content(memory: Memory) -> dict[str, Any]:
    """State and draws as NumPy, which travels between processes."""
    state = memory.state_dict()
    state["drawn"] = memory.sample(4, torch.Generator().manual_seed(1)).index if len(memory) else None
    return as_numpy(state)


def as_numpy(value):
    if isinstance(value, torch.Tensor):
        return value.numpy()
    return {k: as_numpy(v) for k, v in value.items()} if isinstance(value, dict) else value


def on_rank(group, plan: Plan, rank: int, folder: str | None = None):
    """Offer this rank's part of every call."""
    memory = Memory(policy=plan.policy, seed=5, process_group=group, **options(plan, folder))
    for number, call in enumerate(plan.calls):
        offer(memory, call[rank], plan, number, rank)
        if plan.update:
            index = torch.tensor(call[rank], dtype=torch.int64)
            memory.update(index, {"priority": index.float() + number + rank, "level": (index + rank).short()})
    return content(memory)


def in_one_process(plan: Plan, folder: str | None = None):
    """The same calls, the rows of rank 0, 1, … as one batch."""
    memory = Memory(policy=plan.policy, seed=5, **options(plan, folder))
    for number, call in enumerate(plan.calls):
        offer(memory, [i for ids in call for i in ids], plan, number, 0)
        if plan.update:
            index = torch.tensor([i for ids in call for i in ids], dtype=torch.int64)
            ranks = torch.tensor([r for r, ids in enumerate(call) for _ in ids], dtype=torch.int64)
            memory.update(index, {"priority": index.float() + number + ranks, "level": (index + ranks).short()})
    return content(memory)


def options(plan: Plan, folder: str | None) -> dict[str, Any]:
    return {**dict(plan.memory), **({} if folder is None else {"storage": "memmap", "folder": folder})}


def offer(memory: Memory, ids, plan: Plan, number: int, rank: int) -> None:
    modalities = plan.modalities[(number + rank) % len(plan.modalities)]
    batch = rows(torch.tensor(ids, dtype=torch.int64), modalities)
    extras, hints = columns(batch.index)
    memory.add(batch, extras, hints=hints)


def resumed(group, plan: Plan, rank: int):
    """Half of the calls, a state handed to another memory, and the other half."""
    memory = Memory(policy=plan.policy, seed=5, process_group=group, **options(plan, None))
    for number, call in enumerate(plan.calls):
        if number == len(plan.calls) // 2:
            state = memory.state_dict()
            memory = Memory(policy=plan.policy, seed=0, process_group=group, **options(plan, None))
            memory.load_state_dict(state)
        offer(memory, call[rank], plan, number, rank)
    return content(memory)


def mistaken(group, rank: int, kind: str):
    """A sound call, one with a mistake on rank 1, and a sound one again; ids before and after the mistake."""
    settings = {"capacity": 4, "policy": "priority", "seed": 5}
    if rank == 1 and kind == "capacity":
        settings["capacity"] = 5
    memory = Memory(process_group=group, **settings)
    batch = rows(range(rank * 10, rank * 10 + 3))
    extras, _ = columns(batch.index)
    if kind != "capacity":
        memory.add(batch, extras)
    before = memory.index.tolist()
    try:
        mistake(memory, rank, kind)
        error = None
    except Exception as caught:
        error = caught
    after = memory.index.tolist()
    if kind != "capacity":
        batch = rows(range(100 + rank, 103 + rank))
        memory.add(batch, columns(batch.index)[0])
    return {"error": error, "before": before, "after": after, "end": memory.index.tolist()}


def mistake(memory: Memory, rank: int, kind: str) -> None:
    batch = rows(range(50 + rank * 10, 53 + rank * 10))
    extras, _ = columns(batch.index)
    wrong = rank == 1
    if kind == "dtype" and wrong:
        batch.inputs["image"] = batch.inputs["image"].double()
    if kind == "new column":
        extras["depth"] = torch.zeros(3, 4 if wrong else 2)
    if kind == "extra" and wrong:
        del extras["priority"]
    if kind == "codec" and wrong:
        extras["priority"] = extras["priority"] * float("nan")
    if kind == "length" and wrong:
        extras["priority"] = extras["priority"][:2]
    if kind == "ids" and wrong:
        memory.update(batch.index > 0, {"priority": extras["priority"]})
    elif kind == "ids":
        memory.update(batch.index, {"priority": extras["priority"]})
    elif kind == "update" and wrong:
        memory.update(batch.index, {"priority": extras["priority"].double()})
    elif kind == "update":
        memory.update(batch.index, {"priority": extras["priority"]})
    elif kind == "call" and wrong:
        memory.update(batch.index, {"priority": extras["priority"]})
    else:
        memory.add(batch, extras)


def with_state_of_one(group, rank: int):
    """Rank 1 has loaded a state, the others have not."""
    memory = Memory(4, process_group=group)
    if rank == 1:
        other = Memory(4)
        other.add(rows(range(3)))
        memory.load_state_dict(other.state_dict())
    try:
        memory.add(rows(range(rank * 10, rank * 10 + 3)))
    except Exception as error:
        return error


def empty_batch() -> Batch:
    none = torch.zeros(0, dtype=torch.int64)
    return Batch({}, none, none, {}, none)


def nothing_to_offer(group, rank: int):
    """Rank 0 has rows, the others have not even modalities."""
    memory = Memory(max_bytes=600, policy="herding", process_group=group)
    for number in range(3):
        index = torch.arange(number * 20, number * 20 + 20)
        memory.add(
            rows(index) if rank == 0 else empty_batch(),
            hints={"features": columns(index)[1]["features"]} if rank == 0 else None,
        )
    return content(memory)
