"""`SharedRows`: one table whose rows lie in several processes, each of which holds consecutive ones.

Sums over all rows come out the same, to the last bit, however many processes share them: float32 rows are first rounded
to whole multiples of one tiny number, 2^(52 − log2 N) of which make the largest value. Sums of such numbers fit into
float64 without any rounding, so their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import inputs
from pyfast_mmcl.clustering.inputs import CACHE_BYTES, Rows, slices
from pyfast_mmcl.clustering.lloyd import Sums, block_step
from pyfast_mmcl.train.identity import shortened, told
from pyfast_mmcl.train.memory.wire import Wire

Ready = TypeVar("Ready")
_GATHER_BYTES = 2**26  # of rows handed round at once


class SharedRows(Rows):
    """This process's rows as a part of all. ``len`` and ``blocks`` are of its own rows; ``total``, ``take`` and
    ``variance`` of all, whose numbers go by rank."""

    def __init__(self, own: Rows, group: dist.ProcessGroup) -> None:
        self.__dict__.update(own.__dict__)
        self._group = group
        largest = max((float(block.abs().max()) for _, block in own.blocks()), default=0.0)
        table = self._gather(torch.tensor([len(own), own.shape[1], own.dtype == torch.float64, largest]).double())
        if len(set(table[:, 1].tolist())) > 1:
            widths = " and ".join(f"{int(D)} on rank {rank}" for rank, D in enumerate(table[:, 1].tolist()))
            raise InputError(f"expected rows of one width in all processes, got {widths}; give them the same features.")
        if len(set(table[:, 2].tolist())) > 1:
            raise InputError(
                "expected one precision in all processes, but some rows need float64 and others do not; pass all rows "
                "as float32, or all moved to where none needs float64."
            )
        self._starts = np.concatenate([[0], np.cumsum(table[:, 0].long().numpy())])
        self._step = grid(float(table[:, 3].max()), self.total) if self.center_dtype == torch.float32 else 0.0
        if not self._mapped:
            self._source = self._snap(self._source)

    @property
    def total(self) -> int:
        """Rows of all processes."""
        return int(self._starts[-1])

    @property
    def runs(self) -> None:  # type: ignore[override]
        """None: compiled runs know the rows of one process alone."""
        return None

    def blocks(self) -> Any:
        """Own rows, as ``Rows.blocks``."""
        if not self._mapped:
            yield slice(0, len(self)), self._source
            return
        for rows in slices(self.shape, inputs._BLOCK_BYTES):
            yield rows, self._snap(self._convert(self._source[rows]))

    def take(self, index: np.ndarray) -> Tensor:
        """Rows [n, D] of all by number, in every process."""
        index, parts = np.asarray(index, dtype=np.int64), []
        rank = dist.get_rank(self._group)
        first, last = self._starts[rank], self._starts[rank + 1]
        for part in slices((len(index), self.shape[1]), _GATHER_BYTES):
            wanted = index[part]
            mine = np.flatnonzero((wanted >= first) & (wanted < last))
            out = torch.zeros(len(wanted), self.shape[1], dtype=self.center_dtype, device=self.device)
            out[torch.from_numpy(mine).to(self.device)] = self._snap(super().take(wanted[mine] - first))
            dist.all_reduce(out, group=self._group)  # one process has the row, the others add zeros
            parts.append(out)
        return torch.cat(parts) if parts else torch.zeros(0, self.shape[1], dtype=self.center_dtype, device=self.device)

    def everyones(self, own: np.ndarray) -> np.ndarray:
        """Numbers [N] of all rows from those of one's own."""
        most = int(np.diff(self._starts).max())
        padded = torch.zeros(most, dtype=torch.float64)
        padded[: len(own)] = torch.from_numpy(np.asarray(own, dtype=np.float64))
        table = self._gather(padded).numpy()
        sizes = np.diff(self._starts)
        return np.concatenate([row[:size] for row, size in zip(table, sizes, strict=True)]).astype(own.dtype)

    def unit(self) -> Rows:
        """All rows divided by their norms."""
        return SharedRows(super().unit(), self._group)

    def variance(self) -> float:
        """Mean over features of the variance over all rows, to nine digits: enough for a tolerance, and the same for
        any number of processes."""
        mean = self._sum(lambda x: x) / self.total
        square = self._sum(lambda x: (x - mean.to(x)).square()) / self.total
        return float(f"{float(square.mean()):.9g}")

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Whether labels are equal in all processes."""
        return bool(self._gather(torch.tensor([float(not torch.equal(a, b))]).double()).sum() == 0)

    def _sum(self, what: Any) -> Tensor:
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        for _, block in self.blocks():
            for part in slices(block.shape, CACHE_BYTES):
                wide = what(block[part].double())
                total += (wide if wide.shape[1] > 1 else wide.expand(-1, 2)).sum(dim=0)[: self.shape[1]].cpu()
        return self._reduce(total)

    def _snap(self, x: Tensor) -> Tensor:
        if not self._step or x.dtype == torch.float64:
            return x
        step, out = self._step, torch.empty(x.shape, dtype=torch.float32, device=x.device)
        for part in slices(x.shape, CACHE_BYTES):
            out[part] = (torch.round(x[part].double() / step) * step).to(torch.float32)
        return out

    def _reduce(self, x: Tensor) -> Tensor:
        x = x.to(self.device)
        dist.all_reduce(x, group=self._group)
        return x.cpu()

    def _gather(self, x: Tensor) -> Tensor:
        """[W, …] of every process in order."""
        x = x.to(self.device)
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(parts, x, group=self._group)
        return torch.stack(parts).cpu()

    def add_up(self, sums: Tensor, counts: Tensor, inertia: float) -> tuple[Tensor, Tensor, float]:
        """Sums, counts and inertia of all processes."""
        dist.all_reduce(sums, group=self._group)
        dist.all_reduce(counts, group=self._group)
        return sums, counts, float(self._gather(torch.tensor([inertia], dtype=torch.float64)).numpy().sum())


def grid(largest: float, N: int) -> float:
    """The power of two of which every value becomes a whole multiple: N times ``largest`` is below 2⁵³ of them."""
    if not largest:
        return 0.0
    return float(2.0 ** (np.ceil(np.log2(largest)) + np.ceil(np.log2(max(N, 2))) - 52))


def shared_step(rows: SharedRows, centers: Tensor, *, metric: str, backend: str) -> Sums:
    """``lloyd.block_step`` on one's own rows; sums, counts and inertia of all, labels of one's own."""
    sums, counts, labels, inertia = block_step(rows, centers, metric=metric, backend=backend)
    sums, counts, inertia = rows.add_up(sums, counts, inertia)
    return sums, counts, labels, inertia


def together(prepare: Callable[[], Ready], processes: Any, settings: Mapping[str, Any], owner: str = "KMeans") -> Ready:
    """``prepare()`` on each of ``processes`` ("all", or a group of torch.distributed), or on this one alone (None).

    A mistake on one must not leave the others waiting for its rows: before any rows are exchanged, all raise one
    InputError where ``prepare`` raises one somewhere, or where the ``settings`` differ. It begins with ``owner``.
    """
    if processes is None:
        return prepare()
    wire = Wire(_group(processes), owner)
    ready, failure = None, None
    try:
        ready = prepare()
    except (ValueError, TypeError) as error:
        failure = error
    problem = None if failure is None else str(failure)
    answers = wire.say({"problem": problem, **{name: repr(told(value)) for name, value in settings.items()}})
    try:
        wire.refuse([answer["problem"] for answer in answers])
    except InputError as error:
        raise error from failure
    # A policy on one and its name on another are settings of different names.
    for name in dict.fromkeys(name for answer in answers for name in answer):
        for rank, answer in enumerate(answers):
            if answer.get(name) != answers[0].get(name):
                first, other = (shortened(one.get(name, "not set")) for one in (answers[0], answer))
                raise InputError(
                    f"{owner} over {wire.world} processes: {name} is {first} on rank 0 and {other} on rank {rank}; "
                    f"give all processes the same."
                )
    return ready  # type: ignore[return-value]


def first_seed(seed: int, processes: Any) -> int:
    """The seed of the first of ``processes``, in all of them."""
    return int(Wire(_group(processes)).say(seed)[0])


def share(rows: Rows, processes: Any) -> SharedRows:
    """``rows`` as this process's part of those of ``processes``: "all", or a group of torch.distributed."""
    return SharedRows(rows, _group(processes))


def _group(processes: Any) -> dist.ProcessGroup:
    if not dist.is_available() or not dist.is_initialized():
        raise InputError(
            "processes: torch.distributed has not been started; call torch.distributed.init_process_group first, or "
            "leave processes at None."
        )
    if isinstance(processes, str) and processes == "all":
        processes = dist.group.WORLD
    if not isinstance(processes, dist.ProcessGroup):
        raise InputError(f"processes must be None, 'all' or a group of torch.distributed, got {processes!r}.")
    return processes


def shared_seed(rng: np.random.Generator, rows: SharedRows) -> np.random.Generator:
    """A generator that draws the same in all processes: seeded by the first one's."""
    seed = rows._gather(torch.from_numpy(rng.integers(2**31, size=2)).double())[0].long().tolist()
    return np.random.default_rng(seed)
