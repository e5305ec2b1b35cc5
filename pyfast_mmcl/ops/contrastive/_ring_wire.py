"""A ring of processes: blocks of rows go round it, and sums follow the block that they belong to.

Every step sends to the right and receives from the left in one batch, so that no order of sends can deadlock. Blocks
are padded to the largest number of rows of any rank: uneven and empty ranks take part like the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from ..._errors import InputError

# Messages of one kind share a channel; a channel holds at most this many tensors.
_CHANNEL = 16
_BLOCKS, _SUMS = 0, 1


class Wire:
    """One rank's place in the ring of ``process_group``."""

    def __init__(self, process_group: dist.ProcessGroup) -> None:
        self.group = check_group(process_group)
        self.rank = dist.get_rank(self.group)
        self.world = dist.get_world_size(self.group)
        self._backends = _backends(self.group)

    @property
    def needs_cuda(self) -> bool:
        """Whether the group carries CUDA memory only."""
        return "cpu" not in self._backends

    def place(self, device: torch.device) -> torch.device:
        """Where messages about tensors on ``device`` lie: gloo carries CPU memory only, so others are copied there."""
        direct = self._backends.get(device.type, "gloo") != "gloo"
        return device if direct else torch.device("cpu")

    def check_device(self, device: torch.device) -> None:
        """InputError where the group cannot carry what lies on ``device``."""
        if device.type == "cpu" and self.needs_cuda:
            names = ", ".join(f"{backend} for {where}" for where, backend in self._backends.items())
            raise InputError(
                f"process_group: the rows are on the CPU and the group has {names} only; move the rows to the GPU, or "
                'initialise torch.distributed with "cpu:gloo,cuda:nccl".'
            )

    def shift(self, tensors: Sequence[Tensor], channel: int, places: int = 1) -> Shift:
        """Start sending ``tensors`` that many ``places`` to the right; equal shapes come from as far left."""
        device = tensors[0].device
        if self.world == 1:
            return Shift([], tensors, list(tensors), device)
        outgoing = [t.to(self.place(device)).contiguous() for t in tensors]
        incoming = [torch.empty_like(t) for t in outgoing]
        there, here = (self.rank + places) % self.world, (self.rank - places) % self.world
        operations = []
        for i, (out, into) in enumerate(zip(outgoing, incoming, strict=True)):
            tag = channel * _CHANNEL + i
            operations.append(dist.P2POp(dist.isend, out, group=self.group, tag=tag, group_peer=there))
            operations.append(dist.P2POp(dist.irecv, into, group=self.group, tag=tag, group_peer=here))
        return Shift(dist.batch_isend_irecv(operations), outgoing, incoming, device)

    def circulate(self, tensors: Sequence[Tensor], steps: int | None = None) -> Iterator[tuple[int, list[Tensor]]]:
        """(owner, its tensors) of every rank, own first; the next block travels while the caller works on this one.

        ``steps``: how many ranks to meet, all by default.
        """
        steps = self.world if steps is None else steps
        current = list(tensors)
        for step in range(steps):
            pending = self.shift(current, _BLOCKS) if step + 1 < steps else None
            yield (self.rank - step) % self.world, current
            if pending is not None:
                current = pending.wait()

    def gather(self, x: Tensor) -> list[Tensor]:
        """``x`` of every rank in rank order (equal shapes)."""
        message = x.to(self.place(x.device)).contiguous()
        parts = [torch.empty_like(message) for _ in range(self.world)]
        dist.all_gather(parts, message, group=self.group)
        return [part.to(x.device) for part in parts]

    def total(self, x: Tensor) -> Tensor:
        """Sum of ``x`` over the ranks, added in rank order: the same bits on every rank."""
        return torch.stack(self.gather(x)).sum(0)


class Shift:
    """A step of the ring under way."""

    def __init__(
        self, works: list[dist.Work], outgoing: Sequence[Tensor], incoming: list[Tensor], device: torch.device
    ) -> None:
        self._works, self._incoming, self._device = works, incoming, device
        self._outgoing = outgoing  # read by the sends until they are done

    def wait(self) -> list[Tensor]:
        """What came from the left, once it is here and the own message has left."""
        for work in self._works:
            work.wait()
        return [t.to(self._device) for t in self._incoming]


class Follower:
    """Sums that follow a block round the ring: every rank merges its part, the owner gets the whole."""

    def __init__(self, wire: Wire, merge: Callable[[list[Tensor], list[Tensor]], list[Tensor]]) -> None:
        self._wire, self._merge = wire, merge
        self._pending: Shift | None = None

    def add(self, part: list[Tensor], behind: int | None = None) -> None:
        """Merge this rank's part for the block in hand and send the sum after the block.

        ``behind``: the sum is whole, and its owner stands that many places behind.
        """
        if self._pending is not None:
            part = self._merge(self._pending.wait(), part)
        self._pending = self._wire.shift(part, _SUMS, 1 if behind is None else -behind)

    def home(self) -> list[Tensor]:
        """The whole of the own block, once every rank that meets it has added its part."""
        return self._pending.wait()


def check_group(group: object) -> dist.ProcessGroup:
    """``group`` as a process group that this process belongs to, or InputError."""
    if not dist.is_available() or not dist.is_initialized():
        raise InputError(
            "process_group: torch.distributed is not initialised; call torch.distributed.init_process_group first, "
            "or leave process_group=None."
        )
    if group is dist.GroupMember.NON_GROUP_MEMBER or (
        isinstance(group, dist.ProcessGroup) and dist.get_rank(group) < 0
    ):
        raise InputError("process_group: this process is not a member of the group; pass a group that contains it.")
    if not isinstance(group, dist.ProcessGroup):
        raise InputError(
            f"process_group: expected a torch.distributed process group such as torch.distributed.group.WORLD, "
            f"got {type(group).__name__}."
        )
    return group


def _backends(group: dist.ProcessGroup) -> dict[str, str]:
    """{device type: backend} of a group, read from a text such as "cpu:gloo,cuda:nccl"."""
    entries = (entry.partition(":") for entry in dist.get_backend_config(group).split(","))
    return {device: backend for device, _, backend in entries}


def pad(x: Tensor, rows: int) -> Tensor:
    """``x`` with zeros appended up to ``rows`` rows."""
    if x.shape[0] == rows:
        return x
    return torch.cat([x, x.new_zeros(rows - x.shape[0], *x.shape[1:])])
