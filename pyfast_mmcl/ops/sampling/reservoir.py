"""`Reservoir`: which rows of a stream a memory keeps, and in which slots."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._errors import InputError, whole_number
from ..knn._checks import check_flag
from . import _dispatch
from ._checks import check_index, check_numbers, check_weights, in_kind


class Offer(NamedTuple):
    """What `Reservoir.offer` gives: rows of the batch that entered, ascending, and the slot of each."""

    rows: Any  # int64 [A]
    slots: Any  # int64 [A]


class Reservoir:
    """The best ``capacity`` rows of everything ever offered, each example id once, in slots that are reused.

    ``contents = merge_reservoir(keys, ids, capacity, groups=groups)`` of all offers: a function of the set offered,
    whatever order, batches, repetitions or interruptions. Keys are `reservoir_keys`, a uniform sample without
    replacement, or `weighted_keys` where weights are offered.

    With groups, shares are those of `balanced_allocation`. They only sink as rows arrive, and grow only while a group
    has lost nothing, so that within a group every row ever offered has the same chance.

    Args:
        capacity: rows to keep, ≥ 1.
        seed: with the ids (and weights), decides the keys.
        device: where slots are kept and offers answered.
        backend: "auto" | "torch" | "native".

    Reference: Vitter, TOMS 1985; Efraimidis & Spirakis, IPL 2006; the balanced form: docs/kernels.md, "Sampling".
    """

    def __init__(
        self, capacity: int, *, seed: int = 0, device: torch.device | str = "cpu", backend: str = "auto"
    ) -> None:
        self.capacity = whole_number("capacity", capacity)
        self.seed = whole_number("seed", seed, least=None)
        self.device = torch.device(device)
        self._backend = backend
        _dispatch.implementation("Reservoir", backend, torch.empty(0, device=self.device))
        # What the first offer brings settles whether rows have groups and weights.
        self._has: dict[str, bool] | None = None
        self._slots: Any = None

    def __len__(self) -> int:
        return 0 if self._slots is None else len(self._slots)

    def __repr__(self) -> str:
        return f"Reservoir({len(self)} of {self.capacity} rows)"

    def offer(self, index: Any, groups: Any = None, weights: Any = None) -> Offer:
        """Offer rows with example ids ``index`` [B]; the answer says which are to be written, and where.

        Rows that are held already do not enter again. An id keeps its group; its weight should stay the same, the
        largest key counts.

        Args:
            index: [B] integers, torch or NumPy.
            groups: [B] integers; in every offer or in none.
            weights: [B] ≥ 0 and finite; in every offer or in none.

        Returns:
            Offer(rows [A], slots [A]) int64, of the kind of ``index``. Rows that leave again in the same offer are
            not named. Slots are below len(reservoir); which of the free ones a row gets is up to the backend.

        Raises:
            InputError: wrong dtype, shape or device; groups or weights that were not there before, or are missing.
        """
        ids = check_index(index, "index")
        names = None if groups is None else check_index(groups, "groups", ids)
        w = None if weights is None else check_weights(weights, "weights", ids)
        self._settle(groups=names is not None, weights=w is not None)
        here = [None if t is None else t.to(self.device).contiguous() for t in (ids, names, w)]
        rows, slots = self._slots.offer(*here)
        return Offer(in_kind(rows, index), in_kind(slots, index))

    @property
    def index(self) -> Tensor:
        """Example id per slot, int64 [len]."""
        return self._column(0)

    @property
    def keys(self) -> Tensor:
        """Key per slot [len], int64, or float64 where weights are offered."""
        return self._column(1)

    @property
    def groups(self) -> Tensor:
        """Group per slot, int64 [len]; 0 where no groups are offered."""
        return self._column(2)

    def order(self) -> Tensor:
        """Slots int64 [len] in order of (key descending, id), which does not show their history."""
        return self.index if self._slots is None else self._slots.order()

    def state_dict(self) -> dict[str, Any]:
        """All that later offers depend on: numbers, and the slots' ids, keys and groups."""
        head = {"capacity": self.capacity, "seed": self.seed}
        if self._has is None:
            return head
        return {**head, **self._has, "slots": dict(zip(("index", "keys", "group"), self._slots.state(), strict=True))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state of the same capacity.

        Raises InputError, before anything is changed, where the state is not one of `state_dict`.
        """
        if "capacity" not in state or "seed" not in state:
            raise InputError("state: expected the entries of Reservoir.state_dict(), capacity or seed is missing.")
        if state["capacity"] != self.capacity:
            raise InputError(f"state: it is of capacity {state['capacity']}, this reservoir of {self.capacity}.")
        seed, has, slots = whole_number("state: seed", state["seed"], least=None), None, None
        if "slots" in state:
            has, columns = _check_slots(state, self.capacity)
            slots = self._new_slots(seed, has["weights"])
            slots.load(*(column.to(self.device).contiguous() for column in columns))
        self.seed, self._has, self._slots = seed, has, slots

    def _new_slots(self, seed: int, weighted: bool) -> Any:
        return _dispatch.holder("Reservoir", self._backend, self.device, self.capacity, seed, weighted)

    def _settle(self, **has: bool) -> None:
        if self._has is None:
            self._slots = self._new_slots(self.seed, has["weights"])
            self._has = has
        for name, given in has.items():
            if given != self._has[name]:
                before, now = ("with", "without") if self._has[name] else ("without", "with")
                raise InputError(f"{name}: earlier rows were offered {before} them, these {now}; do one or the other.")

    def _column(self, number: int) -> Tensor:
        if self._slots is None:
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        return self._slots.state()[number]


def _check_slots(state: dict[str, Any], capacity: int) -> tuple[dict[str, bool], tuple[Tensor, Tensor, Tensor]]:
    """Whether rows have groups and weights, and index, keys and group of every slot of a state."""
    slots = state["slots"]
    missing = [name for name in ("groups", "weights") if name not in state]
    missing += [name for name in ("index", "keys", "group") if not isinstance(slots, dict) or name not in slots]
    if missing:
        raise InputError(f"state: expected the entries of Reservoir.state_dict(), {', '.join(missing)} missing.")
    has = {name: check_flag(state[name], f"state: {name}") for name in ("groups", "weights")}
    index = check_index(slots["index"], "state: index")
    keys = check_numbers(slots["keys"], "state: keys", index)
    group = check_index(slots["group"], "state: group", index)
    expected = torch.float64 if has["weights"] else torch.int64
    if keys.dtype != expected or bool(keys.isnan().any()):
        raise InputError(f"state: expected keys of {expected} without NaN, got {keys.dtype}; the state is damaged.")
    if len(index) > capacity or len(index.unique()) != len(index):
        raise InputError(f"state: expected at most {capacity} ids, each once, got {len(index)}; the state is damaged.")
    return has, (index, keys, group)
