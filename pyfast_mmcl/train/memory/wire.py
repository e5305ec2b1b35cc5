"""Messages between processes that share rows or a memory: what one rank says, all ranks hear."""

from __future__ import annotations

import json
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from pyfast_mmcl._errors import InputError


class Wire:
    """One rank's end of ``process_group``. Every method is called by all ranks in the same order.

    owner  what errors begin with
    """

    def __init__(self, process_group: Any, owner: str = "memory") -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise InputError(
                f"{owner}: process_group needs torch.distributed; call torch.distributed.init_process_group first, or "
                "leave process_group=None."
            )
        if not isinstance(process_group, dist.ProcessGroup) or dist.get_rank(process_group) < 0:
            raise InputError(
                f"{owner}: expected a process group that this process belongs to, such as "
                f"torch.distributed.group.WORLD, got {type(process_group).__name__}."
            )
        self.group, self.owner = process_group, owner
        self.rank, self.world = dist.get_rank(process_group), dist.get_world_size(process_group)
        # A group of NCCL alone carries GPU memory only.
        on_cpu = "cpu:" in dist.get_backend_config(process_group)
        self._device = torch.device("cpu" if on_cpu else "cuda")

    def gather(self, x: Tensor) -> list[Tensor]:
        """``x``, of one shape and dtype everywhere, of all ranks; on the CPU."""
        message = x.to(self._device).contiguous()
        parts = [torch.empty_like(message) for _ in range(self.world)]
        dist.all_gather(parts, message, group=self.group)
        return [part.cpu() for part in parts]

    def gather_rows(self, x: Tensor, counts: list[int]) -> Tensor:
        """Rows of all ranks one after another; ``counts``: how many each has. Row shape and dtype are the same."""
        most = max(counts)
        if most == 0:
            return x.cpu()
        padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
        # As bytes: not every backend carries every dtype.
        parts = self.gather(padded.flatten().contiguous().view(torch.uint8))
        rows = [part.view(x.dtype).view(padded.shape)[:n] for part, n in zip(parts, counts, strict=True)]
        return torch.cat(rows)

    def say(self, values: Any) -> list[Any]:
        """``values``, anything that JSON can write, of all ranks; two messages."""
        text = torch.frombuffer(bytearray(json.dumps(values).encode()), dtype=torch.uint8)
        lengths = [int(n) for n in self.gather(torch.tensor([len(text)]))]
        texts = self.gather_rows(text, lengths).split(lengths)
        return [json.loads(bytes(t.tolist())) for t in texts]

    def agree(self, problem: str | None) -> None:
        """Raise InputError on every rank when one has a problem: the first one's sentence."""
        if not any(int(bad) for bad in self.gather(torch.tensor([int(problem is not None)]))):
            return
        self.refuse(self.say(problem))

    def refuse(self, problems: list[str | None]) -> None:
        """Raise InputError for the first problem among those of the ranks, if there is one."""
        for rank, problem in enumerate(problems):
            if problem is not None:
                raise InputError(f"{self.owner} over {self.world} processes: rank {rank} reports: {problem}")
