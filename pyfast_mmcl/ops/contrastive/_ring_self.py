"""Rows of all ranks compared among themselves: half a turn of the ring meets every pair of ranks.

At step t rank r holds the rows of rank r − t. Step 0 is the own block, half of whose tiles suffice. While t < W/2, no
other rank meets this pair: the tile serves both, and what belongs to the owner of the rows in hand travels with them
and is sent home at the end. With an even number of ranks, the two of the last step face each other and each takes its
own part.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _pairs
from ._pairs import Pull, Side
from ._ring_passes import Ring, add_sums, merge_sides
from ._ring_wire import Follower


def _shared_steps(world: int) -> int:
    """Steps beside the first in which one rank works for two."""
    return (world - 1) // 2


def self_stats(ring: Ring, z: Tensor, scale: Any) -> Side:
    """Statistics of the own rows z [N, D] over the rows of all ranks but themselves."""
    world, rank = ring.wire.world, ring.wire.rank
    shared = _shared_steps(world)
    follower = Follower(ring.wire, merge_sides)
    row: Side | None = None
    travels = ring.padded_all([z, ring.col_ids])
    for step, (owner, block) in enumerate(ring.wire.circulate(travels, world // 2 + 1)):
        other, ids = ring.cut(block, owner)
        options = {"rows": True, "cols": 0 < step <= shared, "symmetric": step == 0, **ring.options(owner)}
        part, back = _pairs.pair_stats(
            z, z if step == 0 else other, scale, row_ids=ring.row_ids, col_ids=ids, **options
        )
        assert part is not None  # statistics of rows are asked for at every step
        row = part if row is None else _pairs.merge(row, part)
        if back is not None:
            follower.add(ring.padded_all([back.max, back.sum, back.pos]), behind=step if step == shared else None)
    assert row is not None
    if shared:
        row = _pairs.merge(row, Side(*ring.cut(follower.home(), rank)))
    return row


def self_grads(ring: Ring, z: Tensor, scale: Any, pull: Pull, need_z: bool) -> tuple[Tensor | None, Tensor]:
    """dz [N, D] of the own rows over all ranks, both parts of dS + dSᵀ; and this rank's share of dscale."""
    world, rank = ring.wire.world, ring.wire.rank
    shared = _shared_steps(world)
    follower = Follower(ring.wire, add_sums)
    dz: Tensor | None = None
    dscale = torch.zeros((), dtype=torch.float64, device=z.device)
    travels = ring.padded_all([z, ring.col_ids, pull.max, pull.coef, pull.pos])
    for step, (owner, block) in enumerate(ring.wire.circulate(travels, world // 2 + 1)):
        other, ids, *side = ring.cut(block, owner)
        own, serves = step == 0, 0 < step <= shared
        options = {"need_a": need_z, "need_b": need_z and serves, "symmetric": own, **ring.options(owner)}
        part, back, part_scale = _pairs.pair_grads(
            z,
            z if own else other,
            scale,
            pull,
            None if own else Pull(*side),
            row_ids=ring.row_ids,
            col_ids=ids,
            **options,
        )
        # Where two ranks face each other, both have the pair's whole share.
        dscale += part_scale if own or serves else part_scale / 2
        if part is not None:
            dz = part if dz is None else dz.add_(part)
        if back is not None:
            follower.add(ring.padded_all([back]), behind=step if step == shared else None)
    if shared and need_z:
        dz = dz.add_(ring.cut(follower.home(), rank)[0])
    return dz, dscale
