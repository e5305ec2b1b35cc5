"""What a training by phases is made of: phases, players and steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from pyfast_mmcl.train.optimizers import Factory

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class Step:
    """One step of a phase: what an objective may draw on.

    rows       int64 [b] on the CPU, the examples of the step
    generator  of the CPU; with the place of the step it decides everything random
    done       share of the phase's steps that lie behind, in [0, 1)
    epoch      epoch of the phase, from 0
    """

    rows: Tensor
    generator: torch.Generator
    done: float
    epoch: int


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

    @property
    def n_batches(self) -> int:
        """Steps of an epoch. A last batch of one row joins the one before it: batch statistics need two rows."""
        full, rest = divmod(self.n_rows, self.batch_size)
        return max(1, full + (rest > 1 or (rest == 1 and self.batch_size == 1)))

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
) -> Phase:
    """A phase with one player; arguments as those of Player and Phase."""
    player = Player(tuple(parameters), objective, optimizer, schedule=schedule)
    return Phase(name, (player,), n_rows, epochs, batch_size, start, watch, watch_every, end)
