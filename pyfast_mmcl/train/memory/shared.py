"""One memory over several processes: every rank offers its rows, and all end with the rows of one process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.memory.columns import Column, Key
from pyfast_mmcl.train.memory.core import Rows
from pyfast_mmcl.train.memory.exchange import Exchange, dtype_name, layouts
from pyfast_mmcl.train.memory.offer import Chances, as_old, chances, decide, no_chances, numbers
from pyfast_mmcl.train.memory.policies import KeyPolicy
from pyfast_mmcl.train.memory.wire import Wire

_NOTHING = np.zeros(0, dtype=np.int64)


def add_together(
    wire: Wire,
    memory: Rows,
    batch: Batch,
    extras: Mapping[str, Tensor],
    hints: Mapping[str, Tensor],
    *,
    greet: bool,
) -> None:
    """Offer the rows of all ranks; ``greet``: compare settings, which the first call does."""
    policy = memory.policy
    assert isinstance(policy, KeyPolicy)  # Memory takes no other over several processes
    problem, new, own = None, {}, no_chances(policy)
    try:
        rows = as_old(batch, extras, hints)
        if len(rows):
            new = memory.store.missing(rows)
            own = chances(policy, memory.seed, memory.table, rows, hints, full=memory.full())
    except InputError as error:
        problem = str(error)
    exchange = Exchange(wire, "add")
    answers = exchange.open(problem, len(own.rows), _told(new, own, greet), _settings(memory))
    new = exchange.columns(answers, memory.store)
    capacity = memory.capacity(new) if new or memory.store.columns else 0
    offer = decide(policy, memory.table, exchange.chances(own, answers), capacity)
    encoded, slots = None, _NOTHING
    try:
        if offer is None:
            memory.store.prepare(new, memory.store.rows)
        else:
            mine = exchange.own(offer)
            if len(mine):
                encoded = memory.store.encode(rows.select(torch.from_numpy(own.rows[mine]).to(rows.device)), new)
            slots = memory.make_room(offer, new, capacity)
    except InputError as error:
        problem = str(error)
    if offer is not None:
        encoded = exchange.winners(offer, {**memory.store.columns, **new}, encoded, problem)
        memory.settle(offer, new, encoded, slots, capacity)
    else:
        if new:
            wire.agree(problem)
            memory.store.columns.update(new)
        memory.table.close()


def update_together(wire: Wire, memory: Rows, index: Tensor, extras: Mapping[str, Tensor]) -> np.ndarray:
    """Rewrite extras of the ids that all ranks name; of equal ids the last row of the last rank counts. Own ids."""
    problem, values, ids = None, {}, _NOTHING
    try:
        ids = numbers(index)
        values = {name: memory.store.values(name, x, len(ids)) for name, x in extras.items()}
    except InputError as error:
        problem = str(error)
    exchange = Exchange(wire, "update")
    told = {"extras": sorted(extras) if len(ids) else None, "always": True}
    answers = exchange.open(problem, len(ids), told, _settings(memory))
    named = [answer["extras"] for answer in answers if answer["extras"] is not None]
    for names in named:
        if names != named[0]:
            raise InputError(
                f"memory over {wire.world} processes: update got extras {named[0]} on one rank and {names} on "
                f"another; give the same on all."
            )
    if not named:
        return ids
    all_ids = wire.gather_rows(torch.from_numpy(ids), exchange.counts).numpy()
    device = memory.store.storage.device
    together = {}
    for name in named[0]:
        column = memory.store.extra(name)
        own = values[name] if len(ids) else torch.zeros((0, *column.shape), dtype=column.dtype)
        together[name] = wire.gather_rows(own, exchange.counts).to(device)
    memory.rewrite(all_ids, together)
    return ids


def _told(new: Mapping[Key, Column], own: Chances, greet: bool) -> dict[str, Any]:
    """What the other ranks cannot know; empty in the long run."""
    told: dict[str, Any] = {"greet": True} if greet else {}
    if new:
        told["new"] = layouts(new)
    if own.features is not None and len(own.rows):
        told["features"] = [own.features.shape[1], dtype_name(own.features.dtype)]
    return told


def _settings(memory: Rows) -> dict[str, Any]:
    return {**memory.settings(), "codecs": memory.store.codecs, "number of rows": len(memory)}
