"""A batch dealt to several processes: each passes its share through the network, all see what became of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from pyfast_mmcl.train.processes import Processes
from pyfast_mmcl.train.statistics import statistics_of_all


class Shares:
    """``size`` rows over processes: each has consecutive ones, as many as the others or one more.

    ``gather`` and the statistics of batch normalisation are exact adjoints over all processes: backward, a share gets
    the sum of the gradients that every process has for it. With w_r = ``weight`` of process r and L_r its loss,

    ``mean over r of the gradients = gradient of the mean over r of w_r · L_r``

    for losses of one's own rows (means of a share, of which w_r makes the mean of the batch) and for losses of gathered
    ones (the same L everywhere, and the mean of w_r is 1) alike, and for their sums.
    """

    def __init__(self, processes: Processes, size: int) -> None:
        self._processes, self.size = processes, size
        world = processes.world
        # Too few to give every process the two rows that statistics of a batch need: all of them take all.
        self.split = world > 1 and size >= 2 * world
        fewest, more = divmod(size, world) if self.split else (size, 0)
        rank = processes.rank if self.split else 0
        self._start = rank * fewest + min(rank, more)
        self._stop = self._start + fewest + (rank < more)
        self.weight = (self._stop - self._start) * world / size if self.split else 1.0

    def own(self, x: Tensor) -> Tensor:
        """One's own rows [m · b, …] of x [m · size, …], m tensors of the whole batch one behind the other."""
        if not self.split:
            return x
        return x.unflatten(0, (-1, self.size))[:, self._start : self._stop].flatten(0, 1)

    def gather(self, x: Tensor) -> Tensor:
        """The rows [m · size, …] of all processes from one's own x [m · b, …], in the order of the batch."""
        if not self.split:
            return x
        mine = x.unflatten(0, (-1, self._stop - self._start))
        m, _, *shape = mine.shape
        before, behind = (mine.new_zeros(m, n, *shape) for n in (self._start, self.size - self._stop))
        # One process has the row, the others add zeros: shares may be uneven.
        return self._processes.total(torch.cat([before, mine, behind], dim=1)).flatten(0, 1)

    @contextmanager
    def statistics(self, network: nn.Module) -> Iterator[None]:
        """Inside, the batch normalisation of ``network`` takes the statistics of the whole batch."""
        with ExitStack() as stack:
            if self.split:
                stack.enter_context(statistics_of_all(network, self._processes.total))
            yield
