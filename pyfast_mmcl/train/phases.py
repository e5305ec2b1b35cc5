"""What a training by phases is made of: phases, players and steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from pyfast_mmcl.train.optimizers import Factory
from pyfast_mmcl.train.shares import Shares

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One step of a phase: what an objective may draw on.

    batch      int64 [B] on the CPU, the examples of the step
    generator  of the CPU, the same on all processes: with the place of the step it decides everything random. What it
               draws for the whole batch is dealt out by ``own``; numbers of torch's generator are a process's own
    done       share of the phase's steps that lie behind, in [0, 1)
    epoch      epoch of the phase, from 0
    shares     how several processes share the batch; None: there is one

    A mean over ``rows``, one's own examples, becomes the mean over the batch. Where the batch as a whole matters
    (contrast, entropies of mean assignments), ``gather`` brings together what the processes found for their rows.
    """

    batch: Tensor
    generator: torch.Generator
    done: float
    epoch: int
    shares: Shares | None = None

    @property
    def rows(self) -> Tensor:
        """int64 [b], the examples of this process: all of them where there is one."""
        return self.own(self.batch)

    def own(self, x: Tensor) -> Tensor:
        """This process's rows [m · b, …] of x [m · B, …], m tensors of the whole batch one behind the other."""
        return x if self.shares is None else self.shares.own(x)

    def gather(self, x: Tensor) -> Tensor:
        """What all processes have, [m · B, …] in the order of the batch, from x [m · b, …]; with gradients."""
        return x if self.shares is None else self.shares.gather(x)


@dataclass(frozen=True)
class Player:
    """Weights that learn by one objective: most phases have one player, an adversarial one has two.

    parameters  the weights; objective(step) → named scalar terms, which are summed
    optimizer   function of the weights
    repeats     updates per step, each with rows of its own
    schedule    factor of the learning rate as a function of ``Step.done`` (default 1)
    clip_norm   largest gradient norm
    """

    parameters: Sequence[Parameter]
    objective: Callable[[Step], Terms]
    optimizer: Factory
    repeats: int = 1
    schedule: Callable[[float], float] | None = None
    clip_norm: float | None = None
    name: str = ""


@dataclass(frozen=True)
class Phase:
    """A stretch of training over N rows.

    start         called once before the first step, without gradients: centres by k-means, neighbours
    watch         called without gradients before every ``watch_every``-th step (None: before every epoch), with the
                  number of steps done; True ends the phase
    end           called once after the last step, without gradients
    least_batch   fewest rows of the last batch of an epoch, or as many as the others have; fewer join the one before:
                  batch statistics need two rows
    """

    name: str
    players: Sequence[Player]
    n_rows: int
    epochs: int
    batch_size: int
    start: Callable[[], None] | None = None
    watch: Callable[[int], bool | None] | None = None
    watch_every: int | None = None
    end: Callable[[], None] | None = None
    least_batch: int = 2

    @property
    def n_batches(self) -> int:
        """Steps of an epoch."""
        full, rest = divmod(self.n_rows, self.batch_size)
        return max(1, full + (rest >= self.least_batch))

    def batch(self, order: Tensor, i: int) -> Tensor:
        """The rows of step ``i`` of an epoch whose rows come in this ``order`` [N]."""
        last = i == self.n_batches - 1
        return order[i * self.batch_size : None if last else (i + 1) * self.batch_size]


def single(
    name: str,
    parameters: Iterable[Parameter],
    objective: Callable[[Step], Terms],
    optimizer: Factory,
    *,
    n_rows: int,
    epochs: int,
    batch_size: int,
    schedule: Callable[[float], float] | None = None,
    start: Callable[[], None] | None = None,
    watch: Callable[[int], bool | None] | None = None,
    watch_every: int | None = None,
    end: Callable[[], None] | None = None,
    least_batch: int = 2,
) -> Phase:
    """A phase with one player; arguments as those of Player and Phase."""
    player = Player(tuple(parameters), objective, optimizer, schedule=schedule)
    return Phase(name, (player,), n_rows, epochs, batch_size, start, watch, watch_every, end, least_batch)
