"""`PriorityTree`: draws with probability proportional to priorities that change all the time."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..._errors import InputError, number_above_zero, whole_number
from ..knn._checks import as_tensor, check_flag
from . import _dispatch, _native_sampling
from ._checks import check_index, check_numbers, in_kind
from .keys import fold_seed

_USE = 0x7EE  # tells these draws from others of the same seed
SMALLEST, LARGEST = 2.0**-100, 2.0**100  # well inside the normal numbers of float32


class Draw(NamedTuple):
    """What `PriorityTree.sample` gives: leaves [n], their probabilities and their importance weights, or None."""

    index: Tensor  # type: ignore[assignment]  # int64 [n], hides tuple.index
    probability: Tensor  # float64 [n]
    weight: Tensor | None  # float64 [n]


class PriorityTree:
    """A 16-ary tree of prefix sums over ``capacity`` leaves: batches of draws and updates in O(log₁₆ capacity) each.

    ``P(i) = priority[i] / total``, ``weight = (N·P)^−β / max over leaves = (minimum / priority)^β``.

    Every node is recomputed from its children, never by adding differences: after any history the tree equals one
    built anew from its leaves, bit for bit. Leaves are float32, sums float64 and uniforms carry 53 bits, so no
    leaf is out of reach: probabilities are right to 2⁻⁴⁷.

    Args:
        capacity: number of leaves, ≥ 1; all start at 0, which is never drawn.
        seed: with the step, decides the draws.
        device: where the tree lies and where `sample` answers.
        backend: "auto" | "torch" | "native".

    Reference: Schaul et al., Prioritized experience replay, ICLR 2016; design in docs/kernels.md.
    """

    def __init__(
        self, capacity: int, *, seed: int = 0, device: torch.device | str = "cpu", backend: str = "auto"
    ) -> None:
        self.capacity = whole_number("capacity", capacity)
        self.seed = whole_number("seed", seed, least=None)
        self.device = torch.device(device)
        self.step = 0
        self._tree = _dispatch.holder("PriorityTree", backend, self.device, self.capacity)
        # The compiled tree on the CPU looks at every index itself, before it writes: once is enough.
        self._refuses = isinstance(self._tree, _native_sampling.PriorityTree)

    def __len__(self) -> int:
        """Leaves with a priority above 0."""
        return len(self._tree)

    def __repr__(self) -> str:
        return f"PriorityTree({len(self)} of {self.capacity} leaves, total={self.total:.6g})"

    @property
    def total(self) -> float:
        """Sum of all priorities, as the root holds it."""
        return float(self._tree.total)

    @property
    def minimum(self) -> float:
        """Smallest priority above 0, infinite while there is none."""
        return float(self._tree.minimum)

    def update(self, index: Any, priority: Any) -> None:
        """Set the priorities of leaves ``index`` [B]; where one is named twice, the last value wins.

        priority [B]: 0, or between 2⁻¹⁰⁰ (7.9e-31) and 2¹⁰⁰ (1.3e30); a number sets all of them. Raises InputError,
        before anything is changed, for other values (NaN, infinity, negative), and for a leaf outside the capacity.
        """
        leaves = self._leaves(index)
        if not self._refuses:
            self._check_inside(leaves)
        if isinstance(priority, (int, float)) and not isinstance(priority, bool):
            priority = torch.full((len(leaves),), float(priority), dtype=torch.float64, device=self.device)
        values = check_numbers(self._here(priority), "priority", leaves)
        try:
            _check_priorities(values, "priority")
            values = values if values.dtype == torch.float32 else values.to(torch.float32)
            self._tree.update(leaves.contiguous(), values.contiguous())
        except InputError:
            self._check_inside(leaves)
            raise

    def priority(self, index: Any) -> Any:
        """Priorities float32 [B] of leaves ``index`` [B], in kind."""
        leaves = self._leaves(index)
        self._check_inside(leaves)
        return in_kind(self._tree.priority(leaves.contiguous()), index)

    def sample(self, n: int, *, step: int | None = None, stratified: bool = True, beta: float | None = None) -> Draw:
        """Draw n leaves with replacement; (seed, step) decides.

        step        None continues counting from the last step
        stratified  one draw from each n-th of the total: the same probabilities, less variance
        beta        exponent β > 0 of the importance weights, or 0 for ones; None gives none

        Raises InputError while no leaf has a priority above 0.
        """
        draws = whole_number("draws", n, least=0)
        check_flag(stratified, "stratified")
        at = self.step if step is None else whole_number("step", step, least=0)
        if beta is not None and beta != 0:
            number_above_zero("beta", beta)
        if len(self) == 0 and draws > 0:
            raise InputError("sample: no leaf has a priority above 0; give some with update(index, priority) first.")
        leaves, probability = self._tree.sample(draws, _draw_seed(self.seed), at, stratified)
        self.step = at + 1
        if beta is None:
            return Draw(leaves, probability, None)
        ratio = self._tree.priority(leaves).double().div_(self.minimum)
        return Draw(leaves, probability, ratio.pow_(-beta))

    def state_dict(self) -> dict[str, Any]:
        """Capacity, seed, step and leaves: all that the draws depend on."""
        return {"capacity": self.capacity, "seed": self.seed, "step": self.step, "leaves": self._tree.leaves()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same capacity; the draws that follow are those of the tree that wrote it.

        Raises InputError, before anything is changed, where the state is not one of `state_dict`.
        """
        missing = {"capacity", "seed", "step", "leaves"} - set(state)
        if missing:
            raise InputError(f"state: expected the entries of PriorityTree.state_dict(), {sorted(missing)} missing.")
        if state["capacity"] != self.capacity:
            raise InputError(f"state: it is of capacity {state['capacity']}, this tree of {self.capacity}.")
        seed = whole_number("state: seed", state["seed"], least=None)
        step = whole_number("state: step", state["step"], least=0)
        leaves = check_numbers(state["leaves"], "state: leaves")
        if leaves.dtype != torch.float32 or len(leaves) != self.capacity:
            raise InputError(
                f"state: expected leaves float32 [{self.capacity}], got {leaves.dtype} {list(leaves.shape)}; "
                "take the state from PriorityTree.state_dict()."
            )
        _check_priorities(leaves, "state: leaves")
        self._tree.load(leaves.to(self.device).contiguous())
        self.seed, self.step = seed, step

    def _here(self, x: Any) -> Any:
        """Arrays come to the tree; tensors must lie where it does."""
        return as_tensor(x, "index").to(self.device) if isinstance(x, np.ndarray) and self.device.type != "cpu" else x

    def _leaves(self, index: Any) -> Tensor:
        leaves = check_index(self._here(index), "index")
        if leaves.device.type != self.device.type:
            raise InputError(f"index: expected a tensor on {self.device}, got one on {leaves.device}; move it first.")
        return leaves

    def _check_inside(self, leaves: Tensor) -> None:
        if len(leaves):
            low, high = map(int, leaves.aminmax())
            if low < 0 or high >= self.capacity:
                raise InputError(f"index: expected leaves between 0 and {self.capacity - 1}, got {low} … {high}.")


@functools.lru_cache(maxsize=64)
def _draw_seed(seed: int) -> int:
    return fold_seed(seed, _USE)


def _check_priorities(values: Tensor, name: str) -> None:
    if len(values) == 0:
        return
    low, high = map(float, values.aminmax())
    if SMALLEST <= low and high <= LARGEST:  # NaN fails both
        return
    bad = ~((values == 0) | ((values.double() >= SMALLEST) & (values.double() <= LARGEST)))
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise InputError(
            f"{name}: expected 0 or a number between {SMALLEST:.1e} and {LARGEST:.1e}, "
            f"entry {row} is {float(values[row])}."
        )
