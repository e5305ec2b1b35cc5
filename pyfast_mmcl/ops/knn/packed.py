"""`PackedRows`: a database prepared once and searched often, to which rows can be appended."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from . import _checks as checks
from . import _dispatch, _native_knn


class PackedRows:
    """Rows kept ready for search: ``knn(q, PackedRows(x), k)`` equals ``knn(q, x, k)`` without packing x again.

    Appending packs only the new rows; what lies in the bank is neither moved nor repacked. The packed form is that of
    the best instruction set here: bfloat16 (2·D bytes per row) with AVX-512 BF16, else float32 (4·D bytes).

    Args:
        database: rows [M, D] to start with, torch or NumPy, float32, float16 or bfloat16; M = 0 is legal.
        metric: "l2" | "ip" | "cosine". A bank answers searches of its own metric only.
        copy: keep an own copy of the rows for the exact ranking (default: a replay memory changes in place).
            With False the caller promises not to change them; a memory map then stays on disk.

    Raises:
        InputError: wrong shape or dtype, unknown metric, rows that do not fit the bank.

    Searches may run from several threads; `append` waits for them.
    """

    def __init__(self, database: Any, metric: str = "l2", *, copy: bool = True) -> None:
        self.metric = checks.check_metric(metric)
        rows = checks.as_rows(database, "database")
        self.sample = rows.new_empty(0, rows.shape[1])  # dtype, device and width of the bank
        self._copy = copy
        self._segments: list[Tensor] = []
        self._count = 0
        self._packed: dict[str, Any] = {}
        self._lock = threading.RLock()
        self.append(database)

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"PackedRows({self._count} rows, {self.sample.shape[1]} features, metric={self.metric!r})"

    @property
    def rows(self) -> Tensor:
        """All rows [M, D] in order."""
        with self._lock:
            return self._segments[0] if len(self._segments) == 1 else torch.cat([self.sample, *self._segments])

    @property
    def nbytes(self) -> int:
        """Bytes of the packed form, without the rows themselves."""
        return sum(int(p.nbytes) for p in self._packed.values())

    def append(self, rows: Any) -> None:
        """Add rows [m, D] behind the present ones; their indices continue from len(self)."""
        new = checks.as_rows(rows, "rows")
        checks.check_pair(new, self.sample, "rows", "the bank")
        if new.shape[0] == 0:
            return
        new = new.clone(memory_format=torch.contiguous_format) if self._copy else new
        with self._lock:
            try:
                for backend, packed in self._packed.items():
                    _append(backend, packed, new)
            except BaseException:
                self._packed.clear()  # one form may hold the new rows and another not: both are built anew when needed
                raise
            self._segments.append(new)
            self._count += new.shape[0]

    def search(
        self, queries: Tensor, k: int, metric: str, exclude_self: bool = False, backend: str = "auto"
    ) -> tuple[Tensor, Tensor]:
        """Distances and indices [N, k]; called by `knn`, which checks the arguments."""
        if metric != self.metric:
            raise InputError(f'metric: the bank was packed for "{self.metric}", got "{metric}"; pack another bank.')
        with self._lock:
            chosen = _dispatch.backend_for("knn", backend, queries, self.sample)
            if chosen == "native":
                return _native_knn.search(queries, self._pack(chosen), k, metric, exclude_self)
            if chosen == "triton":
                return self._pack(chosen).search(queries, k, exclude_self)
            return _dispatch.run(chosen, queries, self.rows, k, metric, exclude_self)

    def pack(self, backend: str = "auto") -> PackedRows:
        """Build the packed form now instead of at the first search; returns self."""
        with self._lock:
            chosen = _dispatch.backend_for("PackedRows", backend, self.sample)
            if chosen != "torch":
                self._pack(chosen)
        return self

    def _pack(self, backend: str) -> Any:
        if backend not in self._packed:
            if backend == "native":
                packed = _native_knn.new_bank(self.metric, self.sample.shape[1])
            else:
                from .search_triton import PackedTriton

                packed = PackedTriton(self.sample, metric=self.metric)
            for segment in self._segments:
                _append(backend, packed, segment)
            self._packed[backend] = packed
        return self._packed[backend]


def _append(backend: str, packed: Any, rows: Tensor) -> None:
    if backend == "native":
        _native_knn.append(packed, rows)
    else:
        packed.append(rows)
