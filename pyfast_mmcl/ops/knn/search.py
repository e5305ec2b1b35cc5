"""`knn`: the exact k nearest rows of every query."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._errors import InputError
from . import _checks as checks
from . import _dispatch
from ._groups import knn_in_groups, read_groups
from .packed import PackedRows


def knn(
    queries: Any,
    database: Any,
    k: int,
    *,
    metric: str | None = None,
    groups: Any = None,
    exclude_self: bool = False,
    backend: str = "auto",
    check_finite: bool = False,
) -> tuple[Any, Any]:
    """Exact k nearest rows of every query, without the N×M matrix.

    ``d = ((q[:, None] - x) ** 2).sum(-1)  # l2, squared;  q @ x.T  # ip;  ip of unit rows  # cosine``
    ``d.topk(k, largest=metric != "l2")  # in float64, ties to the smaller index``

    Exact means: equal to the float64 ranking of the given values, whatever precision the scan runs in, on any
    number of threads. Rows are screened in low precision with a rigorous error bound; survivors are ranked in float64.
    Working memory beyond the packed rows: below 64 MiB for k up to 1,024; for larger k add some 100 bytes × k.

    Args:
        queries: [N, D] torch tensor (any device) or NumPy array; float32, float16 or bfloat16. float64 is accepted
            and runs on the torch reference. N = 0 is legal.
        database: [M, D], same kind and device, or `PackedRows`. A NumPy memory map is streamed, so it may be larger
            than memory. M = 0 is legal.
        k: neighbours per query, ≥ 1. Where k exceeds the rows there are, index −1 and distance +inf (l2) or −inf pad.
        metric: "l2" (squared Euclidean distance, ascending), "ip" or "cosine" (similarity, descending);
            default: that of the bank, or "l2". A zero row has cosine similarity 0 to everything.
        groups: search only rows of the query's own group: integers [N] used for both sides, or a pair
            (query_groups [N], database_groups [M]). Costs some 40 bytes per row for sorting; a `PackedRows` filled by
            several appends is joined to one tensor first.
        exclude_self: leave row i of the database out of the answer to query i; needs N = M.
        backend: "auto" | "torch" | "native" | "triton"; one asked for by name never falls back.
        check_finite: raise InputError when a value is NaN or infinite. Otherwise a NaN score ranks behind every number.

    Returns:
        distances [N, k] float32 (float64 for float64 input) and indices [N, k] int64, of the kind that came in.

    Raises:
        InputError: wrong shape, dtype, device mix, k < 1, groups of the wrong length, unknown metric.
        BackendError: the backend asked for by name cannot run.

    Reference: docs/kernels.md (bound and proof).
    """
    q = checks.as_rows(queries, "queries")
    k = checks.check_k(k)
    exclude_self = checks.check_flag(exclude_self, "exclude_self")
    bank = database if isinstance(database, PackedRows) else None
    metric = checks.check_metric(metric or (bank.metric if bank is not None else "l2"))
    x = bank.sample if bank is not None else checks.as_rows(database, "database")
    m = len(bank) if bank is not None else x.shape[0]
    checks.check_pair(q, x, "queries", "database")
    if exclude_self and q.shape[0] != m:
        raise InputError(f"exclude_self: expected as many queries as database rows, got {q.shape[0]} and {m}.")
    if check_finite:
        checks.check_finite(q, "queries")
        checks.check_finite(bank.rows if bank is not None else x, "database")
    if groups is not None:
        query_groups, row_groups = read_groups(groups, q.shape[0], m, q.device)
        x = bank.rows if bank is not None else x
        chosen = _dispatch.backend_for("knn", backend, q, x)
        result = knn_in_groups(chosen, q, x, k, metric, exclude_self, query_groups, row_groups)
    elif bank is not None:
        result = bank.search(q, k, metric, exclude_self, backend)
    elif torch.compiler.is_compiling():
        result = torch.ops.pyfast_mmcl.knn(q, x, k, metric, exclude_self, backend)
    else:
        result = _dispatch.run(_dispatch.backend_for("knn", backend, q, x), q, x, k, metric, exclude_self)
    numpy = not isinstance(queries, Tensor)
    return checks.like(result[0], numpy), checks.like(result[1], numpy)


@torch.library.custom_op("pyfast_mmcl::knn", mutates_args=())
def _registered(
    queries: Tensor, database: Tensor, k: int, metric: str, exclude_self: bool, backend: str
) -> tuple[Tensor, Tensor]:
    """The form that torch.compile sees: one opaque op with a shape rule."""
    chosen = _dispatch.backend_for("knn", backend, queries, database)
    return _dispatch.run(chosen, queries, database, k, metric, exclude_self)


@_registered.register_fake
def _shapes(
    queries: Tensor, database: Tensor, k: int, metric: str, exclude_self: bool, backend: str
) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if queries.dtype == torch.float64 else torch.float32
    n = queries.shape[0]
    return queries.new_empty((n, k), dtype=dtype), queries.new_empty((n, k), dtype=torch.int64)
