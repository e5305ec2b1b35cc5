"""Glue to the samplers compiled with CUDA: device tensors, allocated here, on the current stream; no call waits.

The results are those of `_native_sampling`, bit for bit: the same sums in the same order, the same ties.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _native
from ._native_sampling import _WORD, FLOATS

# Rows that one block of threads covers in k-centre, and that one takes in the filter of a reservoir.
_ROWS_PER_BLOCK = 32
_ACCEPT_BLOCK = 1024


def usable(*tensors: Tensor) -> tuple[bool, str]:
    """Whether the CUDA samplers take these tensors, and why not."""
    for t in tensors:
        if t.device.type != "cuda":
            return False, f"compiled for CUDA devices, a tensor is on {t.device}"
        if t.is_floating_point() and t.dtype not in FLOATS:
            return False, f"compiled for float32, float16, bfloat16 and float64, got {t.dtype}"
    if not _native.info()["cuda"]:
        return False, "the compiled module was built without CUDA; rebuild it where nvcc is found"
    return _native.available()


def _stream(device: torch.device) -> int:
    return torch.cuda.current_stream(device).cuda_stream


def _new(*shape: int, dtype: torch.dtype = torch.int64, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def herding(features: Tensor, m: int, rows: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
    """`_native_sampling.herding` on the GPU; all groups advance together, two launches per pick.

    features [N, D] contiguous and finite (not checked), rows [R] and offsets [G + 1] int64 on the same device, with
    rows below N and offsets that begin with 0, ascend and end with R (not checked). Returns [G, m] int64.
    """
    device = features.device
    if rows is None:
        rows = torch.arange(len(features), device=device)
    if offsets is None:
        offsets = torch.tensor([0, len(rows)], device=device)
    groups, n = len(offsets) - 1, len(rows)
    group_of = torch.repeat_interleave(torch.arange(groups, device=device), offsets.diff(), output_size=n)
    workspace = (
        _new(groups, features.shape[1], dtype=torch.float64, device=device),
        _new(4, n, dtype=torch.float64, device=device),
        _new(groups, dtype=torch.float64, device=device),
        _new(groups, device=device),
    )
    order = _new(groups, m, device=device)
    capsule = _native.capsule
    _native.module().herding_cuda(
        capsule(features),
        capsule(rows),
        capsule(offsets),
        capsule(group_of),
        tuple(map(capsule, workspace)),
        capsule(order),
        _stream(device),
    )
    return order


def k_center(
    features: Tensor, m: int, first: int | None = None, centers: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`_native_sampling.k_center` on the GPU; two launches per choice.

    features [N, D] contiguous and finite (not checked); centers [C, D] of the same dtype and device. Returns
    [m] int64 and the radius [1] float64, both on the device.
    """
    device, n = features.device, len(features)
    centers = features[:0] if centers is None else centers
    chosen = torch.zeros(m, dtype=torch.int64, device=device)
    if m and not len(centers):
        if first is None:
            chosen[:1] = herding(features, 1)[0]
        else:
            chosen[:1] = first
    gap = _new(n, dtype=torch.float64, device=device)
    widest = _new(-(-n // _ROWS_PER_BLOCK), dtype=torch.float64, device=device)
    radius = _new(1, dtype=torch.float64, device=device)
    arrays = map(_native.capsule, (features, centers, gap, widest, chosen, radius))
    _native.module().k_center_cuda(*arrays, _stream(device))
    return chosen, radius


def reservoir_accept(seed: int, index: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a batch whose `reservoir_keys` reach the smallest key of a full reservoir.

    index [B] int64, threshold [1] int64. Returns keys [B] of all rows, rows [B] of which the first ``count`` are valid
    and ascend, and count [1], int64 on the device.
    """
    n, device = len(index), index.device
    starts, count = _new(-(-n // _ACCEPT_BLOCK), device=device), _new(1, device=device)
    keys, rows = _new(n, device=device), _new(n, device=device)
    arrays = map(_native.capsule, (index, threshold, starts, keys, rows, count))
    _native.module().reservoir_accept_cuda(seed & _WORD, *arrays, _stream(index.device))
    return keys, rows, count


class PriorityTree:
    """`_native_sampling.PriorityTree` on a GPU: the same sums and draws, without a wait for the host.

    What a CPU tree refuses cannot be raised here without waiting: an index out of range or a priority that is negative
    or not finite is left out of its update, and `flaw` says so; a draw from an empty tree is index −1, probability NaN.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity, self.device = capacity, torch.device(device)
        leaves, entries = -(-capacity // 16) * 16, _native.module().tree_entries(capacity)

        def zeros(size: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(size, dtype=dtype, device=self.device)

        self._leaves = zeros(leaves, torch.float32)
        self._sum, self._pre = zeros(entries, torch.float64), zeros(entries, torch.float64)
        self._low = torch.full((entries,), torch.inf, device=self.device)
        self._claim, self._owner = zeros(entries, torch.int32), zeros(leaves, torch.int32)
        self._positive, self.flaw = zeros(1, torch.int64), zeros(1, torch.int32)
        self._updates = 0

    def _arrays(self) -> tuple:
        arrays = (self._leaves, self._sum, self._pre, self._low, self._claim, self._owner, self._positive, self.flaw)
        return tuple(map(_native.capsule, arrays))

    def update(self, index: Tensor, priority: Tensor) -> None:
        """Set leaves: index [B] int64, priority [B] float32, on the device; the last of equal indices wins."""
        self._updates = self._updates % (2**31 - 1) + 1  # tells this update's claims from those before
        _native.module().tree_update_cuda(
            self.capacity,
            self._arrays(),
            _native.capsule(index),
            _native.capsule(priority),
            self._updates,
            _stream(self.device),
        )

    def sample(self, n: int, seed: int, step: int, stratified: bool = True) -> tuple[Tensor, Tensor]:
        """n draws with replacement: index [n] int64 and ``leaf / total`` [n] float64, on the device."""
        index = _new(n, device=self.device)
        probability = _new(n, dtype=torch.float64, device=self.device)
        outputs = map(_native.capsule, (index, probability))
        _native.module().tree_sample_cuda(
            self.capacity, self._arrays(), seed & _WORD, step & _WORD, stratified, *outputs, _stream(self.device)
        )
        return index, probability

    @property
    def total(self) -> Tensor:
        """Sum of all leaves, as draws use it: a float64 number on the device."""
        return self._sum[self._root]

    @property
    def minimum(self) -> Tensor:
        """The smallest positive leaf, inf where there is none: a float32 number on the device."""
        return self._low[self._root]

    @property
    def positive(self) -> Tensor:
        """Number of positive leaves: an int64 number on the device."""
        return self._positive[0]

    @property
    def _root(self) -> int:
        return len(self._sum) - 16  # a level is filled up to 16 entries, and the root is the only one of its level

    def priority(self, index: Tensor) -> Tensor:
        """Leaves [B] float32 of index [B] int64."""
        return self._leaves[index]

    def leaves(self) -> Tensor:
        """All leaves [capacity] float32, a copy: the whole state."""
        return self._leaves[: self.capacity].clone()

    def load(self, leaves: Tensor) -> None:
        """Set all leaves [capacity] float32 (finite, not negative; not checked) and rebuild the nodes."""
        self._leaves[: self.capacity] = leaves + 0.0  # -0 becomes 0
        self._positive[0] = (leaves > 0).sum()
        _native.module().tree_rebuild_cuda(self.capacity, self._arrays(), _stream(self.device))
