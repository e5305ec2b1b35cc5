"""Drawing rows: places in the order of a memory, from a generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.ops.sampling import PriorityTree

# Up to here a random order of all places is cheaper than finding repeated ones.
_SHUFFLED = 2048


def distinct(length: int, n: int, generator: torch.Generator | None) -> np.ndarray:
    """min(n, length) different places in [0, length), every ordered choice equally likely; O(n) for large memories."""
    if length <= _SHUFFLED or 4 * n >= length:
        return torch.randperm(length, generator=generator)[:n].numpy()
    places = np.zeros(0, dtype=np.int64)
    while len(places) < n:
        more = torch.randint(length, (n + n // 4 + 16,), generator=generator).numpy()
        places = np.concatenate([places, more])
        _, first = np.unique(places, return_index=True)
        places = places[np.sort(first)]
    return places[:n]


class Priorities:
    """A tree over the places of a memory, leaves in proportion to an extra; built anew when the rows change."""

    def __init__(self) -> None:
        self._of: tuple[int, str] | None = None
        self._tree: PriorityTree | None = None

    def current(self, version: int, name: str) -> bool:
        """Whether the tree is that of the extra ``name`` of this version of the rows."""
        return self._of == (version, name)

    def build(self, version: int, name: str, values: Tensor) -> None:
        """Leaves ``values`` [M]. Raises InputError for what is no priority."""
        if values.ndim != 1 or not values.is_floating_point():
            raise InputError(
                f"memory: expected one floating number per row in extra {name!r} to draw by, got rows of "
                f"{list(values.shape[1:])} {values.dtype}."
            )
        tree = PriorityTree(len(values))
        tree.update(torch.arange(len(values)), values.cpu().float())
        self._of, self._tree = (version, name), tree

    def update(self, version: int, name: str, places: np.ndarray, values: Tensor) -> None:
        """New leaves at ``places``, where the tree stands for this extra; values that are no priorities end it."""
        if self.current(version, name):
            try:
                self._tree.update(torch.from_numpy(places), values.cpu().float())
            except InputError:
                self._of = None  # the extra has been rewritten; who draws by it is told

    def draw(self, n: int, generator: torch.Generator | None, beta: float | None) -> tuple[np.ndarray, Tensor | None]:
        """n places with replacement, one from each n-th of the sum, and float32 importance weights for ``beta``."""
        step = int(torch.randint(1 << 62, (1,), generator=generator))
        drawn = self._tree.sample(n, step=step, beta=beta)
        return drawn.index.numpy(), None if drawn.weight is None else drawn.weight.float()
