"""`PackedTriton`: rows packed on the GPU once and searched often, exactly.

Search climbs a ladder per query: float16 scan → the same with a larger buffer → float32 scan → exhaustive float64.
Each rung either proves that its survivors contain the answer or hands the query on; the last one needs no proof.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._errors import InputError
from .exact_cuda import best_of_pairs, distances_of, exhaustive, merge_best, pair_scores, ranking_key
from .filter_triton import Survivors, rescan, scan
from .nearest_triton import best_and_rival
from .pack_triton import Packed, empty_packed, fit_frame, pack, pack_into
from .scan_triton import Plan, for_float32, larger, plan_for, query_bounds

# Candidate buffers, images of queries, or float32 images of rows that exist at one time.
WORKSPACE_BYTES = 64 * 2**20
# Above this k the buffers would hold no more than a few queries: rank exhaustively.
LARGEST_SCREENED_K = 1024
# Two sets (before and after compaction) of low, high and id.
_CANDIDATE_BYTES = 24


class PackedTriton:
    """Exact k nearest rows on a GPU: ``((q[:, None] - x) ** 2).sum(-1).topk(k, largest=False)`` without the N×M matrix.

    Args:
        database: [M, D] float32, float16, bfloat16 or float64; must not be changed while the bank is in use.
        metric: "l2" (squared distances), "ip" or "cosine" (similarities).
        plan: block shapes and buffer sizes; None chooses by shape.

    Memory: D rounded up to 64 columns in float16 and 16 bytes per row, a reference to the rows (a copy after the
    first `append`), and bounded workspace while searching.
    """

    def __init__(self, database: Tensor, metric: str = "l2", plan: Plan | None = None) -> None:
        if metric not in ("l2", "ip", "cosine"):
            raise InputError(f'metric: expected "l2", "ip" or "cosine", got {metric!r}.')
        if len(database) >= 2**31:
            raise InputError(f"database: expected fewer than 2**31 rows, got {len(database)}; search it in parts.")
        self.metric = metric
        self.plan = plan
        self._begin(database.detach())

    def _begin(self, database: Tensor) -> None:
        self._rows = database
        self._length = 0
        self._frame = fit_frame(database, self.metric)
        self._bank = empty_packed(len(database), self._frame, torch.float16, database.device)
        self._skipped = torch.empty(0, dtype=torch.int64, device=database.device)
        self._add(database)

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form, without the rows themselves."""
        bank = self._bank
        return sum(x.nbytes for x in (bank.image, bank.norm, bank.rho, bank.bias, bank.exponent))

    @property
    def rows(self) -> Tensor:
        """The given rows [M, D]."""
        return self._rows[: self._length]

    @torch.no_grad()
    def append(self, rows: Tensor) -> None:
        """Add rows [m, D]; earlier rows are not packed again. Room grows by half, so appending is cheap on average."""
        if rows.ndim != 2 or rows.shape[1] != self._rows.shape[1] or rows.device != self._rows.device:
            raise InputError(
                f"rows: expected shape [m, {self._rows.shape[1]}] on {self._rows.device}, "
                f"got {list(rows.shape)} on {rows.device}."
            )
        if self._length + len(rows) >= 2**31:
            raise InputError(f"rows: the bank holds {self._length} rows and fewer than 2**31 fit; start a second bank.")
        if len(rows) == 0:
            return
        if self._length == 0:
            # A bank that began empty takes centre and scale, and the rows themselves, from its first append.
            self._begin(rows.detach())
            return
        # Every narrower value is exact in the wider type, so earlier images stay valid.
        self._reserve(self._length + len(rows), torch.promote_types(self._rows.dtype, rows.dtype))
        self._rows[self._length : self._length + len(rows)] = rows
        self._add(self._rows[self._length : self._length + len(rows)])

    @torch.no_grad()
    def search(self, queries: Tensor, k: int, exclude_self: bool = False) -> tuple[Tensor, Tensor]:
        """The k best rows of each query.

        Args:
            queries: [N, D] on the bank's device.
            k: at least 1; beyond the number of rows, index −1 and distance +inf (l2) or −inf (ip, cosine).
            exclude_self: query i does not return row i.

        Returns:
            distances [N, k] float32 (float64 for float64 queries), indices [N, k] int64; ties by smaller index,
            NaN behind every number.
        """
        N = len(queries)
        dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
        distances = torch.empty((N, k), dtype=dtype, device=queries.device)
        indices = torch.empty((N, k), dtype=torch.int64, device=queries.device)
        own = torch.full((N,), -1, dtype=torch.int32, device=queries.device)
        if exclude_self:
            own = torch.arange(N, dtype=torch.int32, device=queries.device)
        plan = self.plan or plan_for(N, self._frame.padded, k)
        for part in _blocks(N, plan):
            key, indices[part] = self._search(queries[part], k, own[part], plan)
            distances[part] = distances_of(key, self.metric).to(dtype)
        return distances, indices

    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The best row of each query: distances [N], indices [N]; ``search(queries, 1)`` in one pass."""
        distances, indices = self.nearest64(queries)
        return distances.to(torch.float64 if queries.dtype == torch.float64 else torch.float32), indices

    @torch.no_grad()
    def nearest64(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """`nearest` with distances in float64."""
        N = len(queries)
        key = torch.empty(N, dtype=torch.float64, device=queries.device)
        indices = torch.empty(N, dtype=torch.int64, device=queries.device)
        step = max(1, WORKSPACE_BYTES // (2 * self._frame.padded))
        for start in range(0, N, step):
            part = slice(start, start + step)
            key[part], indices[part] = self._nearest(queries[part])
        return distances_of(key, self.metric), indices

    def _reserve(self, needed: int, dtype: torch.dtype) -> None:
        if needed <= len(self._bank) and dtype == self._rows.dtype:
            return
        room = max(needed, self._length + self._length // 2)
        rows = torch.empty((room, self._rows.shape[1]), dtype=dtype, device=self._rows.device)
        rows[: self._length] = self.rows
        self._rows = rows
        bank = empty_packed(room, self._frame, torch.float16, rows.device)
        for name in ("image", "norm", "rho", "bias"):
            getattr(bank, name)[: self._length] = getattr(self._bank, name)[: self._length]
        self._bank = bank

    def _add(self, rows: Tensor) -> None:
        # Rows [m, D] are already stored behind the present ones: pack them in place.
        added = self._bank.part(slice(self._length, self._length + len(rows)))
        pack_into(rows, self._frame, added, query=False)
        skipped = torch.isneginf(added.bias).nonzero()[:, 0] + self._length
        self._skipped = torch.cat([self._skipped, skipped])
        self._length += len(rows)

    def _packed(self) -> Packed:
        return self._bank.part(slice(0, self._length))

    def _search(self, queries: Tensor, k: int, own: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
        if self._length == 0 or k > LARGEST_SCREENED_K:
            return exhaustive(queries, self.rows, k, self.metric, own)
        packed = pack(queries, self._frame, torch.float16, query=True)
        bounds = query_bounds(packed, self._frame, torch.float16)
        found = scan(packed, bounds, own, self._packed(), k, plan)
        key, ids = self._rank(queries, found, k)
        usable = torch.isfinite(packed.norm)
        left = (found.overflow & usable).nonzero()[:, 0]
        left = self._climb(queries, own, k, plan, found.floor, left, key, ids)
        left = torch.cat([left, (~usable).nonzero()[:, 0]])
        self._add_skipped(queries, k, own, key, ids)
        if len(left):
            key[left], ids[left] = exhaustive(queries[left], self.rows, k, self.metric, own[left])
        return key, ids

    def _climb(
        self, queries: Tensor, own: Tensor, k: int, plan: Plan, floor: Tensor, left: Tensor, key: Tensor, ids: Tensor
    ) -> Tensor:
        # Runs the queries in `left` again with more room, then in float32; returns those that still overflow.
        roomy = larger(plan)
        for dtype, plan in ((torch.float16, roomy), (torch.float32, for_float32(roomy))):
            remaining = []
            for part in _blocks(len(left), plan):
                rows = left[part]
                packed = pack(queries[rows], self._frame, dtype, query=True)
                bounds = query_bounds(packed, self._frame, dtype)
                blocks = [(0, self._packed())] if dtype == torch.float16 else self._float_blocks(plan)
                found = rescan(packed, bounds, own[rows], blocks, k, floor[rows], plan)
                floor[rows] = found.floor
                key[rows], ids[rows] = self._rank(queries[rows], found, k)
                remaining.append(rows[found.overflow])
            left = torch.cat(remaining) if remaining else left
        return left

    def _float_blocks(self, plan: Plan):
        # float32 images live for one block only: extra memory stays bounded whatever M is. The first block fits the
        # buffer, so it cannot overflow and its floor spares the larger blocks behind it.
        largest = max(1, WORKSPACE_BYTES // (4 * self._frame.padded))
        start, step = 0, min(plan.capacity, largest)
        while start < self._length:
            yield start, pack(self.rows[start : start + step], self._frame, torch.float32)
            start, step = start + step, min(step * plan.growth, largest)

    def _rank(self, queries: Tensor, found: Survivors, k: int) -> tuple[Tensor, Tensor]:
        rows, ids = found.pairs()
        key = ranking_key(pair_scores(queries, self.rows, rows, ids, self.metric), self.metric)
        return best_of_pairs(len(queries), k, rows, ids, key)

    def _add_skipped(self, queries: Tensor, k: int, own: Tensor, key: Tensor, ids: Tensor) -> None:
        # Rows without an image (not finite, or far longer than the rest) are ranked beside the survivors.
        if len(self._skipped) == 0:
            return
        more = exhaustive(queries, self.rows[self._skipped], k, self.metric, own, self._skipped)
        key[:], ids[:] = merge_best(key, ids, *more, k)

    def _nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.full((len(queries),), -1, dtype=torch.int32, device=queries.device)
        plan = self.plan or plan_for(len(queries), self._frame.padded, 1)
        if self._length == 0:
            key, ids = exhaustive(queries, self.rows, 1, self.metric, own)
            return key[:, 0], ids[:, 0]
        packed = pack(queries, self._frame, torch.float16, query=True)
        bounds = query_bounds(packed, self._frame, torch.float16)
        low, ids, rival = best_and_rival(packed, bounds, self._packed(), plan)
        # Proven: even the upper end of every other row stays below the lower end of this one.
        proven = (low > rival) & (len(self._skipped) == 0)
        key = torch.full((len(queries),), torch.inf, dtype=torch.float64, device=queries.device)
        rows = proven.nonzero()[:, 0]
        key[rows] = ranking_key(pair_scores(queries, self.rows, rows, ids[rows], self.metric), self.metric)
        rest = (~proven).nonzero()[:, 0]
        for part in _blocks(len(rest), plan):
            at = rest[part]
            best, where = self._search(queries[at], 1, own[at], plan)
            key[at], ids[at] = best[:, 0], where[:, 0]
        return key, ids


def _blocks(N: int, plan: Plan):
    fitting = WORKSPACE_BYTES // (_CANDIDATE_BYTES * plan.capacity)
    step = max(1, fitting // plan.block_n * plan.block_n or fitting)
    for start in range(0, N, step):
        yield slice(start, start + step)
