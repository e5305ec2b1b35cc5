"""Retrieval: recall at k in one or both directions, and mean average precision at k in its three definitions.

Every function takes query embeddings [N, D] and item embeddings [M, D] (torch on any device, or NumPy), ranks the items
exactly with `ops.knn` (ties to the smaller index) and never holds the N×M matrix. ``relevant`` says which items answer
which query:

- None: item i answers query i alone; needs N = M.
- labels [N], integers, for both sides (N = M), or a pair (query labels [N], item labels [M]): equal labels answer. The
  captions of an image carry the image's number; the pictures of a class carry its number.
- a SciPy sparse matrix [N, M]: whatever is not zero answers, for relations that are no partition, such as shared tags.

A query that nothing answers leaves the mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch

from pyfast_mmcl._errors import InputError, unknown_name, whole_number
from pyfast_mmcl.ops.knn import PackedRows, knn

# Neighbours held at a time: 8 MiB of indices and as much of distances and hits.
_BLOCK_VALUES = 2**20

DENOMINATORS = ("possible", "found", "relevant")


def recall_at_k(
    queries: Any,
    database: Any,
    relevant: Any = None,
    *,
    k: int | Iterable[int] = (1, 5, 10),
    metric: str = "cosine",
    exclude_self: bool = False,
    backend: str = "auto",
) -> dict[int, float]:
    """Share of queries with a relevant item among their k nearest: R@k as image-text retrieval reports it.

    ``R@k = (best_rank <= k).float().mean()`` with best_rank that of the nearest relevant item, counted from 1.

    Of several relevant items the best one counts (image to text: the best of an image's captions); it is not the share
    of relevant items found, which information retrieval calls recall.

    Args:
        queries: [N, D] embeddings; database: [M, D], same kind and device.
        relevant: None, labels, a pair of labels or a sparse matrix [N, M]; see the head of this module.
        k: one or several cut-offs, at least 1 (default 1, 5, 10, those of Karpathy and Fei-Fei, CVPR 2015); one beyond
            M counts all items.
        metric: "cosine", "ip" or "l2".
        exclude_self: the items are the queries themselves (N = M) and item i is no answer to query i.
        backend: as in `ops.knn`.

    Returns:
        ``{k: R@k}``, fractions in [0, 1].

    Raises:
        InputError: wrong shapes, values that are NaN or infinite, relevance that does not fit, no query with an answer.
    """
    cuts = _cut_offs(k)
    relation, ranked = _search(queries, database, relevant, cuts[-1], metric, exclude_self, backend)
    best = np.full(len(relation.counts), np.iinfo(np.int64).max)
    for start, indices in ranked:
        hits = relation.hits(start, indices)
        found = hits.any(1)
        best[start : start + len(hits)][found] = hits.argmax(1)[found] + 1
    best = best[relation.counts > 0]
    return {cut: float(np.mean(best <= cut)) for cut in cuts}


def cross_modal_recall(
    images: Any,
    texts: Any,
    relevant: Any = None,
    *,
    k: int | Iterable[int] = (1, 5, 10),
    metric: str = "cosine",
    backend: str = "auto",
    names: tuple[str, str] = ("image", "text"),
) -> dict[str, float]:
    """`recall_at_k` in both directions, and their mean.

    ``{"image_to_text_r1": …, …, "text_to_image_r10": …, "r_mean": mean of all of them}``

    Args:
        images: [N, D]; texts: [M, D]; relevant: as seen from the images, turned round for the texts.
        names: what the two sides are called in the result.

    Other arguments and errors as in :func:`recall_at_k`.

    Reference: mean of the six figures: rsum / 6 of Faghri et al., *VSE++*, BMVC 2018.
    """
    cuts = _cut_offs(k)
    there = recall_at_k(images, texts, relevant, k=cuts, metric=metric, backend=backend)
    back = recall_at_k(texts, images, _turned(relevant), k=cuts, metric=metric, backend=backend)
    scores = {f"{names[0]}_to_{names[1]}_r{cut}": value for cut, value in there.items()}
    scores |= {f"{names[1]}_to_{names[0]}_r{cut}": value for cut, value in back.items()}
    return {**scores, "r_mean": float(np.mean(list(scores.values())))}


def mean_average_precision_at_k(
    queries: Any,
    database: Any,
    relevant: Any = None,
    *,
    k: int,
    denominator: str = "possible",
    cut_at_relevant: bool = False,
    metric: str = "cosine",
    exclude_self: bool = False,
    backend: str = "auto",
) -> float:
    """Mean over queries of AP@k, the precision at the ranks of relevant items averaged over a disputed number of them.

    ``AP@k = (rel * rel.cumsum(0) / ranks).sum() / denominator``, over ranks 1 … k, rel [k] of 0 and 1.

    Args:
        queries, database, relevant, metric, exclude_self, backend: as in :func:`recall_at_k`.
        k: the cut-off, at least 1; one beyond M counts all items.
        denominator: what the sum is divided by, R being the number of relevant items.
            "possible": min(k, R), so that a perfect ranking scores 1 (Kaggle's apk; Weyand et al., *Google Landmarks
            Dataset v2*, CVPR 2020, eq. 1; the default).
            "found": the relevant items among the k, 0 where there is none (P9D: Zhu et al., *CTP*, ICCV 2023;
            torchmetrics' RetrievalMAP). It never falls when the ranking loses a late hit: compare only within it.
            "relevant": R, whatever k (trec_eval's map_cut). A perfect ranking scores k / R where k < R.
        cut_at_relevant: cut at min(k, R) instead of k, query by query. With denominator "found" the mAP@k of P9D; with
            "possible" and k no less than any R the MAP@R of Musgrave et al., *A Metric Learning Reality Check*,
            ECCV 2020.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: as in :func:`recall_at_k`; UnknownNameError: an unknown denominator.
    """
    if denominator not in DENOMINATORS:
        raise unknown_name("denominator", denominator, DENOMINATORS)
    k = whole_number("k", k)
    relation, ranked = _search(queries, database, relevant, k, metric, exclude_self, backend)
    precision = np.empty(len(relation.counts))
    for start, indices in ranked:
        hits = relation.hits(start, indices)
        counts = relation.counts[start : start + len(hits)]
        if cut_at_relevant:
            hits &= np.arange(hits.shape[1]) < counts[:, None]
        sums = (hits * (hits.cumsum(1) / np.arange(1, hits.shape[1] + 1))).sum(1)
        divisors = {"possible": np.minimum(k, counts), "found": hits.sum(1), "relevant": counts}[denominator]
        precision[start : start + len(hits)] = sums / np.maximum(divisors, 1)
    return float(np.mean(precision[relation.counts > 0]))


def p9d_mean_average_precision_at_k(
    queries: Any,
    database: Any,
    relevant: Any = None,
    *,
    k: int,
    metric: str = "cosine",
    exclude_self: bool = True,
    backend: str = "auto",
) -> float:
    """mAP@k as P9D reports it: cut at min(k, R) and divided by the hits found there, 0 where there is none.

    ``AP@k = (rel * rel.cumsum(0) / ranks).sum() / rel.sum()``, over ranks 1 … min(k, R), R relevant items.

    The query itself is no item (``exclude_self``). Arguments, result and errors otherwise as in
    :func:`mean_average_precision_at_k`, of which this is one setting.

    Reference: Zhu et al., *CTP*, ICCV 2023.
    """
    return mean_average_precision_at_k(
        queries,
        database,
        relevant,
        k=k,
        denominator="found",
        cut_at_relevant=True,
        metric=metric,
        exclude_self=exclude_self,
        backend=backend,
    )


class _SameLabel:
    """Item j answers query i where their labels are equal. counts [N]: how many items answer each query."""

    def __init__(self, query_labels: np.ndarray, item_labels: np.ndarray, exclude_self: bool) -> None:
        self._query, self._item = query_labels, item_labels
        values, sizes = np.unique(item_labels, return_counts=True)
        place = np.searchsorted(values, query_labels).clip(max=len(values) - 1)
        self.counts = np.where(values[place] == query_labels, sizes[place], 0)
        if exclude_self:
            self.counts = self.counts - (query_labels == item_labels)

    def hits(self, start: int, indices: np.ndarray) -> np.ndarray:
        """Which of the items ``indices [n, k]`` (−1: none) answer queries start … start + n, bool [n, k]."""
        labels = self._query[start : start + len(indices), None]
        return (self._item[indices] == labels) & (indices >= 0)


class _Listed:
    """Item j answers query i where the sparse matrix [N, M] says so; counts and hits as in `_SameLabel`."""

    def __init__(self, matrix: scipy.sparse.csr_array, exclude_self: bool) -> None:
        self._columns = matrix.shape[1]
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
        self._codes = rows * self._columns + matrix.indices  # ascending: the indices of each row are sorted
        self.counts = np.diff(matrix.indptr).astype(np.int64)
        if exclude_self:
            self.counts -= matrix.diagonal() != 0

    def hits(self, start: int, indices: np.ndarray) -> np.ndarray:
        rows = np.arange(start, start + len(indices), dtype=np.int64)[:, None]
        codes = rows * self._columns + indices
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        return (self._codes[place] == codes) & (indices >= 0)


def _search(
    queries: Any, database: Any, relevant: Any, k: int, metric: str, exclude_self: bool, backend: str
) -> tuple[_SameLabel | _Listed, Iterator[tuple[int, np.ndarray]]]:
    """The relation, and the ranked items of blocks of queries as (first query, indices int64 [n, k])."""
    for rows, name in ((queries, "queries"), (database, "database")):
        if not isinstance(rows, torch.Tensor | np.ndarray) or rows.ndim != 2 or len(rows) == 0:
            got = list(rows.shape) if hasattr(rows, "shape") else type(rows).__name__
            raise InputError(f"{name}: expected embeddings [rows, features] with at least one row, got {got}.")
    # Searches of nothing: all values are looked at once, here, and not again for every block.
    knn(queries, database[:0], 1, metric=metric, backend=backend, check_finite=True)
    knn(queries[:0], database, 1, metric=metric, backend=backend, check_finite=True)
    N, M = len(queries), len(database)
    if exclude_self and N != M:
        raise InputError(f"exclude_self: expected as many queries as items, got {N} and {M}.")
    relation = _read_relation(relevant, N, M, exclude_self)
    if not (relation.counts > 0).any():
        raise InputError("relevant: expected at least one query with a relevant item, got none; check the labels.")
    return relation, _ranked(queries, database, min(k, M), metric, exclude_self, backend)


def _ranked(
    queries: Any, database: Any, k: int, metric: str, exclude_self: bool, backend: str
) -> Iterator[tuple[int, np.ndarray]]:
    bank = PackedRows(database, metric, copy=False)
    rows = max(1, _BLOCK_VALUES // (k + 1))
    for start in range(0, len(queries), rows):
        # One more than asked for, so that k remain when the query itself is taken out.
        _, found = knn(queries[start : start + rows], bank, k + exclude_self, metric=metric, backend=backend)
        indices = found.cpu().numpy() if isinstance(found, torch.Tensor) else found
        yield start, _without_self(indices, start)[:, :k] if exclude_self else indices


def _without_self(indices: np.ndarray, start: int) -> np.ndarray:
    """The same ranking with the query's own row moved to the end as −1."""
    mine = indices == np.arange(start, start + len(indices))[:, None]
    order = np.argsort(mine, axis=1, kind="stable")
    return np.take_along_axis(np.where(mine, -1, indices), order, axis=1)


def _read_relation(relevant: Any, N: int, M: int, exclude_self: bool) -> _SameLabel | _Listed:
    if scipy.sparse.issparse(relevant):
        if relevant.shape != (N, M):
            raise InputError(f"relevant: expected a sparse matrix [{N}, {M}], got {list(relevant.shape)}.")
        matrix = scipy.sparse.csr_array(relevant, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return _Listed(matrix, exclude_self)
    if relevant is None:
        if exclude_self:
            raise InputError("relevant: with exclude_self nothing would answer a query; pass labels.")
        relevant = (np.arange(N), np.arange(M))
        if N != M:
            raise InputError(f"relevant: without it query i pairs with item i, but there are {N} and {M}; pass labels.")
    pair = relevant if isinstance(relevant, tuple) and len(relevant) == 2 else (relevant, relevant)
    return _SameLabel(_labels(pair[0], N, "queries"), _labels(pair[1], M, "items"), exclude_self)


def _labels(values: Any, size: int, side: str) -> np.ndarray:
    labels = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
    if labels.dtype.kind not in "iu" or labels.shape != (size,):
        raise InputError(
            f"relevant: expected one integer label per row of {side}, shape [{size}], got {labels.dtype} "
            f"{list(labels.shape)}; pass (query labels, item labels) where the two sides differ."
        )
    return labels.astype(np.int64)


def _turned(relevant: Any) -> Any:
    """The relation as seen from the items."""
    if scipy.sparse.issparse(relevant):
        return relevant.T
    return relevant[::-1] if isinstance(relevant, tuple) and len(relevant) == 2 else relevant


def _cut_offs(k: int | Iterable[int]) -> Sequence[int]:
    cuts = sorted({whole_number("k", cut) for cut in (k if isinstance(k, Iterable) else (k,))})
    if not cuts:
        raise InputError("k: expected at least one cut-off, got none.")
    return cuts
