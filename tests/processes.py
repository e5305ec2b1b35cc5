"""A few processes joined by gloo, started once and reused: they run test functions and hand back what those return."""

from __future__ import annotations

import atexit
import functools
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

WORLD = 6
TIMEOUT_S = 60


def _serve(rank: int, folder: str, pipe: Connection) -> None:
    """Run what arrives: (function, ranks of the group, arguments) → (True, result) or (False, error)."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=WORLD, timeout=timedelta(seconds=TIMEOUT_S)
    )
    groups = {}
    while (job := pipe.recv()) is not None:
        function, ranks, arguments = job
        if ranks not in groups:
            groups[ranks] = dist.new_group(list(ranks)) if len(ranks) < WORLD else dist.group.WORLD
        if rank not in ranks:
            continue
        try:
            answer = (True, function(groups[ranks], *arguments))
        except Exception as error:
            answer = (False, error)
        pipe.send(answer)
    dist.destroy_process_group()


class Pool:
    """WORLD processes; every job runs on the ranks that it names, the others stand by."""

    def __init__(self) -> None:
        # One process imports torch, the others are its children: a start takes the time of one import.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "torch.distributed", "pyfast_mmcl.ops.contrastive.ring"])
        self._folder = tempfile.TemporaryDirectory()
        self._pipes, self._processes = [], []
        for rank in range(WORLD):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(rank, self._folder.name, there), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function: Callable, ranks: tuple[int, ...], *per_rank: tuple) -> list[Any]:
        """``function(group, *per_rank[i])`` on every rank of the group; an error of one is returned, not raised."""
        assert len(per_rank) == len(ranks)
        arguments = dict(zip(ranks, per_rank, strict=True))
        for rank, pipe in enumerate(self._pipes):
            pipe.send((function, ranks, arguments.get(rank, ())))
        answers = []
        for rank in ranks:
            if not self._pipes[rank].poll(2 * TIMEOUT_S):
                raise TimeoutError(f"rank {rank} of {ranks} did not answer: the ring hangs")
            answers.append(self._pipes[rank].recv()[1])
        return answers

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(10)
            if process.is_alive():
                process.kill()
        self._folder.cleanup()


@functools.cache
def pool() -> Pool:
    """The one pool of this test process."""
    made = Pool()
    atexit.register(made.close)
    return made
