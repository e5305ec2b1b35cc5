"""Glue to the compiled samplers: allocates outputs, passes DLPack capsules and torch's thread count.

All tensors are contiguous and on the CPU. Every instruction set and any number of threads give the same bits, those of
the definitions below in float64 without fused multiply-adds. Seeds are Python integers of any size and sign.

Random numbers: ``U(seed, step, i) = hash_uniform(fold_seed(seed, step), i)``, multiples of 2⁻⁵³ in [0, 1).
Open ones, for logarithms: ``V(seed, i) = ((reservoir_keys(seed, i) >>> 12) + 0.5) · 2⁻⁵²``, in (0, 1).
The logarithm is made of exactly rounded operations, so that torch on any device gives the same bits:
``x = m · 2^e`` with m in [1, 2); where m > 1.4142135623730951: m = m · 0.5, e = e + 1;
``s = (m − 1) / (m + 1)``, ``z = s · s``; p = 1/21, then for c in 1/19, 1/17, …, 1/3, 1: ``p = p · z + c``;
``log(x) = e · 0.6931471805599453 + (2 · s) · p``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _native

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_WORD = (1 << 64) - 1
_NOTHING = torch.zeros(0, dtype=torch.int64)


def usable(*tensors: Tensor) -> tuple[bool, str]:
    """Whether the compiled samplers take these tensors, and why not."""
    for t in tensors:
        if t.device.type != "cpu":
            return False, f"compiled for the CPU, a tensor is on {t.device}"
    return _native.available()


def _new(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cpu")


def hash_keys(seed: int, index: Tensor) -> Tensor:
    """`reservoir_keys`: int64 [N] → int64 [N]."""
    keys = _new(index.numel())
    _native.module().hash_keys(seed & _WORD, _native.capsule(index.view(-1)), _native.capsule(keys))
    return keys.view(index.shape)


def weighted_keys(seed: int, index: Tensor, weights: Tensor) -> Tensor:
    """``log(V(seed, index)) / weights``, −inf where the weight is 0; keep the largest.

    Args:
        index: [N] int64.
        weights: [N] float64, finite and not negative (InputError names the first that is not).

    Returns:
        [N] float64.
    """
    keys = _new(index.numel(), dtype=torch.float64)
    capsule = _native.capsule
    _native.module().weighted_keys(seed & _WORD, capsule(index), capsule(weights), capsule(keys))
    return keys


def gumbel_top_k(weights: Tensor, k: int, seed: int, log: bool = False) -> Tensor:
    """The k winners of an exponential race, in the order of drawing; ties go to the smaller index.

    With E = −log(V(seed, i)): ascending ``E / w`` (w = 0 gives inf), or, where weights are logarithms l, descending
    ``l − log(E)``. Both are Gumbel-top-k. Rows of weight 0 (log −inf) come last, by index.

    Args:
        weights: [N] float64; not negative and finite, or below +inf where ``log``; no NaN (InputError).
        k: 0 … N.

    Returns:
        [k] int64.
    """
    chosen = _new(k)
    _native.module().gumbel_top_k(
        _native.capsule(weights), seed & _WORD, log, _native.capsule(chosen), torch.get_num_threads()
    )
    return chosen


def alias_build(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Vose's table: keep column j with probability ``keep[j]``, else take ``alias[j]``.

    ``p = w · (N / W)`` with W the sum in index order. Columns with p < 1 go on the stack `small`, others on `large`,
    in index order. While both hold something: s and l are popped; keep[s] = p[s], alias[s] = l,
    p[l] = (p[l] + p[s]) − 1; l is pushed where it now belongs. What is left keeps itself (keep 1, alias itself), but
    a column of weight 0 left over by rounding gets keep 0 and the first column of the largest weight as alias.

    Args:
        weights: [N] float64, N ≥ 1, finite, not negative, not all 0 (InputError).

    Returns:
        keep [N] float64 and alias [N] int64.
    """
    keep, alias = _new(len(weights), dtype=torch.float64), _new(len(weights))
    _native.module().alias_build(_native.capsule(weights), _native.capsule(keep), _native.capsule(alias))
    return keep, alias


def alias_sample(keep: Tensor, alias: Tensor, n: int, seed: int, step: int) -> Tensor:
    """n draws [n] int64: ``j = floor(U(seed, step, 2b) · N)``; j where ``U(seed, step, 2b + 1) < keep[j]``, else alias.

    j is clamped to N − 1. step ≥ 0.
    """
    index = _new(n)
    capsule = _native.capsule
    threads = torch.get_num_threads()
    _native.module().alias_sample(capsule(keep), capsule(alias), seed & _WORD, step & _WORD, capsule(index), threads)
    return index


def herding(features: Tensor, m: int, rows: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """Greedy mean matching of every group (iCaRL, Rebuffi et al. 2017, Algorithm 4), in float64.

    Pick k (from 1) is the smallest ``n‖f_j‖² + 2 (n · v_j − k · b_j)`` over rows j not chosen, the smaller position on
    ties; n rows in the group, T their sum, ``b_j = f_j·T``, ``v_j = Σ f_j·f_p`` over chosen p. That is n times
    iCaRL's ``‖f_j‖² + 2 f_j·(S − kμ)`` without a division: features that are integers, or multiples of one power of
    two, are ranked in exact arithmetic as long as the sums fit 53 bits.

    Ties are scores ≤ smallest + 2⁻⁴⁴ · k · n · max‖f‖² (max over the group). Closer ones are told apart by their
    rounding alone: in a group of two, both rows are equally near the mean, but their computed scores may differ.

    Args:
        features: [N, D] float32, bfloat16, float16 or float64; finite (InputError names the first row that is not).
        m: picks per group, ≥ 0.
        rows: [R] int64, rows of all groups one after another; None: 0 … N − 1. Positions break ties, so ascending
            rows within a group give the smaller index.
        offsets: [G + 1] int64; group g is ``rows[offsets[g] : offsets[g + 1]]``. None: one group.

    Returns:
        [G, m] int64 rows of ``features`` in the order of picking, −1 behind the last of a smaller group.
    """
    groups = 1 if offsets is None else len(offsets) - 1
    order = _new(groups, m)
    capsule = _native.capsule
    _native.module().herding(
        capsule(features),
        None if rows is None else capsule(rows),
        None if offsets is None else capsule(offsets),
        capsule(order),
        torch.get_num_threads(),
    )
    return order


def k_center(features: Tensor, m: int, first: int | None = None, centers: Tensor | None = None) -> tuple[Tensor, float]:
    """Greedy farthest points (Gonzalez 1985) in float64: ``argmax_j min_c ‖f_j − c‖²`` over rows not chosen.

    Ties are squared distances ≥ largest · (1 − 2⁻⁴²): rounding could turn them round. The smaller index wins.

    Args:
        features: [N, D] float32, bfloat16, float16 or float64; finite (InputError).
        m: rows to choose, 0 … N.
        first: the first row; None: the row nearest the mean, as in `herding`. Not used where ``centers`` has rows.
        centers: [C, D] of the same dtype, chosen before.

    Returns:
        [m] int64, and the radius ``max_j min_c ‖f_j − c‖`` over centers and choices (inf without any; 0 where N = 0).
    """
    chosen = _new(m)
    radius = _native.module().k_center(
        _native.capsule(features),
        -1 if first is None else first,
        None if centers is None else _native.capsule(centers),
        _native.capsule(chosen),
        torch.get_num_threads(),
    )
    return chosen, radius


class PriorityTree:
    """16-ary sum tree over float32 leaves; node sums are float64.

    The sum of a node is that of its 16 children added in order, one after another, in float64 (leaves widened); leaves
    behind the capacity are 0. A draw r in [0, total) goes down from the root: at each node c is the number of
    children whose in-node prefix sum is ≤ r; ``r = min(r − prefix[c − 1], largest number below the sum of child c)``.
    Prefixes are monotone and a zero leaf has no width, so it is never drawn. A leaf is drawn with probability
    ``leaf / total`` to within 2⁻⁴⁷ (absolute): roundings of r, prefixes and differences move an interval's ends by
    less than 24 · 2⁻⁵³ of the total.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._tree = _native.module().PriorityTree(capacity)

    def update(self, index: Tensor, priority: Tensor) -> None:
        """Set leaves: the last of equal indices wins. Nodes above are recomputed from their children: no drift.

        index [B] int64 in [0, capacity); priority [B] float32 or float64 (rounded to float32). InputError, with nothing
        changed, on a priority that is negative, NaN or not finite in float32, or an index out of range.
        """
        self._tree.update(_native.capsule(index), _native.capsule(priority))

    def sample(self, n: int, seed: int, step: int, stratified: bool = True) -> tuple[Tensor, Tensor]:
        """n draws with replacement: index [n] int64 and ``leaf / total`` [n] float64.

        Draw b takes ``u = (b + U(seed, step, b)) / n``, or ``U(seed, step, b)`` where not stratified, and
        ``r = min(u · total, largest number below total)``. step ≥ 0. InputError where no leaf is positive.
        """
        index, probability = _new(n), _new(n, dtype=torch.float64)
        threads = torch.get_num_threads()
        arrays = _native.capsule(index), _native.capsule(probability)
        self._tree.sample(seed & _WORD, step & _WORD, stratified, *arrays, threads)
        return index, probability

    @property
    def total(self) -> float:
        """Sum of all leaves, as draws use it."""
        return self._tree.total

    @property
    def minimum(self) -> float:
        """The smallest positive leaf; inf where there is none."""
        return self._tree.minimum

    def __len__(self) -> int:
        """Number of positive leaves."""
        return self._tree.positive

    def priority(self, index: Tensor) -> Tensor:
        """Leaves [B] float32 of index [B] int64; InputError on an index out of range."""
        out = _new(len(index), dtype=torch.float32)
        self._tree.priority(_native.capsule(index), _native.capsule(out))
        return out

    def leaves(self) -> Tensor:
        """All leaves [capacity] float32, a copy: the whole state."""
        out = _new(self.capacity, dtype=torch.float32)
        self._tree.leaves(_native.capsule(out))
        return out

    def load(self, leaves: Tensor) -> None:
        """Set all leaves [capacity] float32 and rebuild the nodes; the same refusals as `update`."""
        self._tree.load(_native.capsule(leaves))


class Reservoir:
    """The ``capacity`` largest keys of everything ever offered, each id once, in slots that are reused.

    Keys are `reservoir_keys` (int64), or `weighted_keys` (float64) where ``weighted``. Larger keys are better, on
    ties the smaller id; an id that is offered again with a larger key (another weight) has the larger one.

    With groups, a new row that finds the reservoir full enters, and the worst row of the largest group leaves (it may
    be the new one); of equally large groups the one with the larger number. This is `balanced_allocation` of the counts
    offered and the best rows of each group: a group's share never grows again once it has lost a row, so that the
    content depends on the set of (id, group) offered alone, never on order or batching. An id keeps its group.
    """

    def __init__(self, capacity: int, seed: int, weighted: bool = False) -> None:
        self.capacity, self.weighted = capacity, weighted
        self._reservoir = _native.module().Reservoir(capacity, seed & _WORD, weighted)

    def offer(
        self, index: Tensor, groups: Tensor | None = None, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Rows of this batch that are in the reservoir now and were not before, and the slot of each.

        index [B] int64; groups [B] int64 (None: 0); weights [B] float64, exactly where ``weighted``, finite and not
        negative (InputError, with nothing changed). Returns rows [A] ascending and slots [A], int64, no slot twice.
        An empty reservoir fills slots 0, 1, …; later a new row takes the slot of the one that left.
        """
        capsule = _native.capsule
        entered = self._reservoir.offer(
            capsule(index),
            None if groups is None else capsule(groups),
            None if weights is None else capsule(weights),
        )
        if entered == 0:
            return _NOTHING, _NOTHING
        rows, slots = _new(entered), _new(entered)
        self._reservoir.entered(capsule(rows), capsule(slots))
        return rows, slots

    def __len__(self) -> int:
        return len(self._reservoir)

    def order(self) -> Tensor:
        """Slots [len] int64 by key, best first; ties by smaller id."""
        out = _new(len(self))
        self._reservoir.order(_native.capsule(out))
        return out

    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """Copies per slot: index [len] int64, keys [len] int64 (float64 where weighted), groups [len] int64."""
        n = len(self)
        index, groups = _new(n), _new(n)
        keys = _new(n, dtype=torch.float64 if self.weighted else torch.int64)
        self._reservoir.state(*map(_native.capsule, (index, keys, groups)))
        return index, keys, groups

    def load(self, index: Tensor, keys: Tensor, groups: Tensor) -> None:
        """Put back what `state` gave; at most ``capacity`` slots, no id twice (InputError)."""
        self._reservoir.load(*map(_native.capsule, (index, keys, groups)))
