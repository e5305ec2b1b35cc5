"""Neighbours of all rows among themselves: mining, mutual and shared neighbours, graphs for spectral methods.

Exact, by ``ops.knn``; without the N×N matrix and without a second copy of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.clustering.base import number_in, whole_number
from pyfast_mmcl.clustering.inputs import Rows, read_rows
from pyfast_mmcl.clustering.neighbor_search import Table, search
from pyfast_mmcl.clustering.samples import Samples

WEIGHTS = ("connectivity", "heat", "self_tuning", "jaccard")
SYMMETRIES = ("union", "mutual", "mean", "none")
_METRICS = ("l2", "ip", "cosine")
_PAIRS = 2**22  # neighbours of neighbours looked at together
_LOCAL_SCALE = 7  # Zelnik-Manor and Perona, §3


def neighbors_of(rows: Any, k: int, *, metric: str = "l2", backend: str = "auto") -> Any:
    """The k nearest other rows of every row: int64 [N, k], nearest first.

    ``d = cdist(x, x) ** 2; d.fill_diagonal_(inf); d.topk(k, largest=False).indices  # in float64``

    Parameters
    ----------
    rows : vectors or codes [N, D] as NumPy array, memory map, torch tensor on any device, or Samples
        Neither the N×N matrix nor a second copy is made; a memory map is read part by part.
    k : int
        Where there are fewer than k other rows, they repeat in order, so that the shape is always the same; a single
        row is its own neighbour.
    metric : "l2", "ip" (inner product) or "cosine", default "l2"
    backend : str, default "auto"
        Passed to ``ops.knn``.

    Returns NumPy for NumPy, else a tensor on the device of the rows. The same for every number of threads; ties go to
    the smaller index.

    Raises InputError for k below 1, an unknown metric, or rows that are empty, not finite or not two-dimensional.

    Reference: Van Gansbeke et al., *SCAN*, ECCV 2020, §2.1 (k = 20, 50 for ImageNet).

    Examples
    --------
    >>> neighbors_of(np.array([[0.0], [1.0], [3.0], [7.0]]), 2).tolist()
    [[1, 2], [0, 2], [1, 0], [2, 1]]
    """
    _, indices, given = _mine(rows, k, metric, backend)
    if indices.shape[1] == 0:
        return given(indices.new_zeros(1, k))
    return given(indices.repeat(1, -(-k // indices.shape[1]))[:, :k].contiguous())


def nearest_rows(rows: Any, k: int, *, metric: str = "l2", backend: str = "auto") -> tuple[Any, Any]:
    """Distances [N, k'] and indices int64 [N, k'] of the nearest other rows, ``k' = min(k, N − 1)``.

    Arguments and errors as in ``neighbors_of``. Distances are squared for "l2"; similarities otherwise, descending;
    float32 (float64 where the rows are computed in it).
    """
    distances, indices, given = _mine(rows, k, metric, backend)
    return given(distances), given(indices)


def mutual_neighbors(neighbors: Any) -> Any:
    """Whether a row is among the neighbours of its neighbour, too: bool [N, k].

    ``out[i, j] = i in neighbors[neighbors[i, j]]`` for neighbors int64 [N, k] of ``neighbors_of``, NumPy or torch.
    """
    table, numpy = _index_of(neighbors)
    found = torch.empty(table.shape, dtype=torch.bool, device=table.device)
    for part, theirs in _neighbors_of_neighbors(table):
        own = torch.arange(part.start, part.stop, device=table.device)[:, None, None]
        found[part] = (theirs == own).any(2)
    return found.numpy() if numpy else found


def shared_neighbors(neighbors: Any, *, measure: str = "count") -> Any:
    """How many neighbours a row shares with each of its neighbours: [N, k].

    ``c = len(N(i) & N(neighbors[i, j]))``, N(i) the set of neighbours of i without i itself.

    neighbors: int64 [N, k] of ``neighbors_of``, NumPy or torch. measure: "count" gives c as int64; "jaccard" gives
    ``c / len(N(i) | N(j))`` as float32.

    Reference: Jarvis and Patrick, *Clustering using a similarity measure based on shared near neighbors*, IEEE
    Transactions on Computers 1973.
    """
    if measure not in ("count", "jaccard"):
        raise unknown_name("measure", measure, ("count", "jaccard"))
    table, numpy = _index_of(neighbors)
    ranked = table.sort(dim=1).values
    # Rows of few others list them again and again; each counts once.
    once = torch.ones_like(ranked, dtype=torch.bool)
    once[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    sizes = once.sum(1)
    out = torch.empty(table.shape, dtype=torch.int64 if measure == "count" else torch.float32, device=table.device)
    k = table.shape[1]
    for part, theirs in _neighbors_of_neighbors(table, ranked):
        mine = ranked[part, None].expand_as(theirs).contiguous()
        place = torch.searchsorted(theirs, mine).clamp_max(k - 1)
        count = ((theirs.gather(2, place) == mine) & once[part, None]).sum(2)
        union = sizes[part, None] + sizes[table[part]] - count
        out[part] = count if measure == "count" else count / union
    return out.numpy() if numpy else out


def knn_graph(
    rows: Any,
    k: int,
    *,
    weights: str = "heat",
    symmetry: str = "union",
    scale: float | None = None,
    metric: str = "l2",
    backend: str = "auto",
) -> csr_array:
    """The graph of nearest neighbours as a sparse matrix W [N, N], float64, without a diagonal.

    ``W[i, j] = exp(−d² / (2 s²))`` (heat) or ``exp(−d² / (s[i] s[j]))`` (self_tuning) where j is a neighbour of i.

    Parameters
    ----------
    rows, k, metric, backend : as in ``neighbors_of``; metric "l2" or "cosine", whose d² is ``2 − 2 cos``
    weights : default "heat"
        "connectivity": 1. "heat": one scale s for all rows. "self_tuning": s[i] is the distance of row i to its 7th
        neighbour (the last one for k < 7). "jaccard": share of common neighbours (``shared_neighbors``).
    symmetry : default "union"
        "union": ``max(W, W.T)``, an edge where either is a neighbour of the other. "mutual": ``min(W, W.T)``, an edge
        where both are. "mean": ``(W + W.T) / 2``. "none": W as it is, directed.
    scale : float, default None
        s of "heat"; None is the median distance to the last neighbour.

    Equal rows have weight 1 whatever the scale. The result goes into ``scipy.sparse.csgraph`` and
    ``sklearn.cluster.SpectralClustering(affinity="precomputed")`` as it is.

    Raises InputError for unknown words, a scale that is not above 0, and what ``neighbors_of`` refuses.

    References: Belkin and Niyogi, *Laplacian eigenmaps*, Neural Computation 2003, §2 (heat); Zelnik-Manor and Perona,
    *Self-tuning spectral clustering*, NIPS 2004, equation 1.
    """
    if weights not in WEIGHTS:
        raise unknown_name("weights", weights, WEIGHTS)
    if symmetry not in SYMMETRIES:
        raise unknown_name("symmetry", symmetry, SYMMETRIES)
    if metric not in ("l2", "cosine"):
        raise unknown_name("metric", metric, ("l2", "cosine"))
    if scale is not None:
        scale = number_in(scale, "scale", above=True)
    distances, indices, _ = _mine(rows, k, metric, backend)
    N, width = indices.shape
    value = _weights(distances.double().cpu(), indices.cpu(), weights, scale, metric)
    # scikit-learn's solvers take row numbers of 32 bits alone.
    small = np.int32 if N * width < 2**31 else np.int64
    starts = (np.arange(N + 1) * width).astype(small)
    columns = indices.cpu().numpy().astype(small).ravel()
    W = csr_array((value.numpy().ravel(), columns, starts), shape=(N, N))
    W.sort_indices()
    return _symmetric(W, symmetry)


def _symmetric(W: csr_array, symmetry: str) -> csr_array:
    if symmetry == "union":
        W = W.maximum(W.T)
    elif symmetry == "mutual":
        W = W.minimum(W.T)
    elif symmetry == "mean":
        W = (W + W.T) / 2
    W = csr_array(W)
    W.eliminate_zeros()
    return W


def _weights(distances: Tensor, indices: Tensor, weights: str, scale: float | None, metric: str) -> Tensor:
    """float64 [N, k] on the CPU."""
    if weights == "connectivity" or indices.shape[1] == 0:
        return torch.ones_like(distances)
    if weights == "jaccard":
        return shared_neighbors(indices, measure="jaccard").double()
    square = (distances if metric == "l2" else 2 - 2 * distances).clamp_min(0)
    if weights == "heat":
        spread = square[:, -1].median() if scale is None else torch.tensor(scale, dtype=torch.float64).square()
        exponent = square / (2 * spread)
    else:
        local = square[:, min(_LOCAL_SCALE, square.shape[1]) - 1].sqrt()
        exponent = square / (local[:, None] * local[indices])
    # 0 / 0 where rows are equal and so is all that is near them. An edge stays an edge where its weight would vanish.
    exponent = torch.where(square > 0, exponent, torch.zeros_like(square))
    return torch.exp(-exponent).clamp_min(torch.finfo(torch.float64).tiny)


def _mine(rows: Any, k: int, metric: str, backend: str) -> tuple[Tensor, Tensor, Callable[[Tensor], Any]]:
    """Distances and indices [N, min(k, N − 1)], and the function that gives a result as the kind of the input."""
    whole_number(k, "k")
    if metric not in _METRICS:
        raise unknown_name("metric", metric, _METRICS)
    give: Callable[[Tensor], Any] = _as_it_is
    if isinstance(rows, Samples):
        table = _table_of_samples(rows)
    else:
        read = read_rows(rows)
        table, give = _table_of_rows(read), read.give
    if table.N == 1:
        empty = torch.empty(1, 0, device=table.device)
        return empty, empty.long(), give
    return *search(table, min(k, table.N - 1), metric, backend), give


def _as_it_is(result: Tensor) -> Tensor:
    return result


def _table_of_rows(rows: Rows) -> Table:
    source = rows.source
    N, D = rows.shape
    return Table(
        N,
        D,
        rows.device,
        part=lambda start, stop: source[start:stop].to(rows.dtype),
        pick=lambda index: source[index].to(rows.dtype),
    )


def _table_of_samples(samples: Samples) -> Table:
    if samples.is_image:
        raise InputError("rows are images, which have no neighbours as they are; pass their codes.")
    return Table(
        len(samples),
        samples.shape[0],
        samples.device,
        part=lambda start, stop: samples.take(torch.arange(start, stop)),
        pick=lambda index: samples.take(index.cpu()),
    )


def _index_of(neighbors: Any) -> tuple[Tensor, bool]:
    """int64 [N, k] as a tensor, and whether it came as NumPy."""
    numpy = not isinstance(neighbors, Tensor)
    table = torch.as_tensor(np.asarray(neighbors)) if numpy else neighbors
    if table.ndim != 2 or table.dtype != torch.int64 or table.shape[1] == 0:
        raise InputError(
            f"neighbors: expected int64 [rows, neighbours], got {table.dtype} {list(table.shape)}; pass the result of "
            f"neighbors_of."
        )
    if len(table) and not 0 <= int(table.min()) <= int(table.max()) < len(table):
        raise InputError(f"neighbors: expected row numbers from 0 to {len(table) - 1}, got others; drop such rows.")
    return table, numpy


def _neighbors_of_neighbors(table: Tensor, among: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
    """(slice of rows, neighbours [n, k, k] of their neighbours), part by part."""
    k = table.shape[1]
    step = max(1, _PAIRS // (k * k))
    for start in range(0, len(table), step):
        part = slice(start, min(start + step, len(table)))
        yield part, (table if among is None else among)[table[part]]
