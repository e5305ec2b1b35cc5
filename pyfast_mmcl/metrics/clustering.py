"""Agreement between a clustering and true classes: accuracy after Hungarian matching, NMI, ARI, purity; and balance.

Scores of agreement take two vectors of N discrete labels (integers, whole floats, booleans or strings; lists, NumPy
arrays or torch tensors on any device) and return a Python float. The names of clusters do not matter, only which rows
are together; a negative label such as −1 is a cluster like any other.
"""

from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array, csr_array, hstack, identity
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from pyfast_mmcl._errors import InputError, whole_number

# Up to this many cells (128 MiB of int64) the contingency table is dense; above it only its non-zero cells are kept.
_DENSE_CELLS = 2**24


def clustering_accuracy(labels_true: Any, labels_pred: Any) -> float:
    """Share of rows that are right under the best one-to-one naming of clusters by classes.

    ``max over injective m of mean(m(labels_pred) == labels_true)``, solved as an assignment problem on the [C, K] table
    of counts; with K ≠ C the surplus clusters (or classes) stay unmatched and their rows count as wrong.

    Args:
        labels_true: [N] classes.
        labels_pred: [N] clusters.

    Returns:
        A float in (0, 1]; at least 1/max(C, K).

    Raises:
        InputError: labels that are empty, not one-dimensional, not discrete, or of different lengths.

    Reference: Kuhn, *The Hungarian method for the assignment problem*, 1955; as a score: Yang et al., ICPR 2010.
    """
    true, pred = _encode_pair(labels_true, labels_pred)
    return float(_matched(true, pred) / len(true))


def nmi(labels_true: Any, labels_pred: Any) -> float:
    """Mutual information of classes and clusters, divided by the arithmetic mean of their entropies.

    ``I(t, p) / ((H(t) + H(p)) / 2)``: 1 for equal partitions, 0 for independent ones.

    Arguments and errors as in :func:`clustering_accuracy`.

    Reference: Strehl and Ghosh, JMLR 2002; computed by scikit-learn.
    """
    true, pred = _encode_pair(labels_true, labels_pred)
    return float(normalized_mutual_info_score(true, pred, average_method="arithmetic"))


def ari(labels_true: Any, labels_pred: Any) -> float:
    """Rand index (share of pairs of rows on which the partitions agree) adjusted for chance.

    ``(RI − E[RI]) / (max RI − E[RI])``: 1 for equal partitions, about 0 for random ones, never below −0.5.

    Arguments and errors as in :func:`clustering_accuracy`.

    Reference: Hubert and Arabie, *Comparing partitions*, 1985; computed by scikit-learn.
    """
    true, pred = _encode_pair(labels_true, labels_pred)
    return float(adjusted_rand_score(true, pred))


def purity(labels_true: Any, labels_pred: Any) -> float:
    """Share of rows that belong to the commonest class of their cluster.

    ``sum_k max_c n[c, k] / N``. It never falls when clusters are split, so read it beside K.

    Arguments and errors as in :func:`clustering_accuracy`.
    """
    true, pred = _encode_pair(labels_true, labels_pred)
    table = _sparse_table(pred, true)  # rows are clusters
    return float(np.maximum.reduceat(table.data, table.indptr[:-1]).sum() / len(true))


def cluster_balance(labels: Any, n_clusters: int | None = None) -> float:
    """Entropy of the cluster sizes as a share of its largest value: 1 for equal sizes, 0 when one cluster has all rows.

    ``−sum_k p_k log p_k / log K`` with ``p_k = n_k / N`` (Pielou's evenness); a single cluster asked for has balance 1.

    Args:
        labels: [N] clusters.
        n_clusters: K; default the number of different labels. With it, empty clusters lower the balance.

    Returns:
        A float in [0, 1].

    Raises:
        InputError: labels as in :func:`clustering_accuracy`, or more different labels than ``n_clusters``.

    Reference: Pielou, *The measurement of diversity in different types of biological collections*, 1966.
    """
    counts = np.bincount(label_codes(labels, "labels"))
    K = len(counts) if n_clusters is None else whole_number("n_clusters", n_clusters)
    if K < len(counts):
        raise InputError(f"n_clusters={K}, but the labels name {len(counts)} clusters; pass the number asked for.")
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(K)) if len(counts) > 1 else float(K == 1)


def clustering_scores(labels_true: Any, labels_pred: Any) -> dict[str, float]:
    """ACC, NMI and ARI at once, as ``{"acc": …, "nmi": …, "ari": …}``; arguments as in :func:`clustering_accuracy`."""
    true, pred = _encode_pair(labels_true, labels_pred)
    return {"acc": clustering_accuracy(true, pred), "nmi": nmi(true, pred), "ari": ari(true, pred)}


def contingency(labels_true: Any, labels_pred: Any) -> csr_array:
    """Counts of rows by class and cluster, a sparse int64 table [C, K] in the sorted order of the label values."""
    return _sparse_table(*_encode_pair(labels_true, labels_pred))


def _matched(true: np.ndarray, pred: np.ndarray) -> int:
    """Largest number of rows that one-to-one matching of the labels can get right."""
    C, K = int(true.max()) + 1, int(pred.max()) + 1
    if C * K <= _DENSE_CELLS:
        table = np.bincount(true * K + pred, minlength=C * K).reshape(C, K)
        rows, columns = linear_sum_assignment(table, maximize=True)
        return int(table[rows, columns].sum())
    return _matched_sparse(_sparse_table(true, pred))


def _matched_sparse(table: csr_array) -> int:
    """The same as a sparse problem: every class gets a private dummy cluster worth nothing, so a matching exists."""
    C = table.shape[0]
    # The solver reads a stored 0 as "no edge": all weights are raised by one, which adds exactly C to any matching.
    raised = table.copy()
    raised.data = raised.data + 1
    edges = hstack([raised, identity(C, dtype=np.int64)], format="csr")
    rows, columns = min_weight_full_bipartite_matching(edges, maximize=True)
    return int(edges[rows, columns].sum()) - C


def _sparse_table(true: np.ndarray, pred: np.ndarray) -> csr_array:
    C, K = int(true.max()) + 1, int(pred.max()) + 1
    table = coo_array((np.ones(len(true), dtype=np.int64), (true, pred)), shape=(C, K)).tocsr()
    table.sum_duplicates()
    return table


def label_codes(labels: Any, name: str) -> np.ndarray:
    """A vector of labels as codes 0 … count−1 in sorted order, int64 [N]; ``name`` is what errors call it."""
    return _codes(_vector(labels, name))


def _encode_pair(labels_true: Any, labels_pred: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both label vectors as codes 0 … count−1, int64 [N]."""
    true, pred = _vector(labels_true, "labels_true"), _vector(labels_pred, "labels_pred")
    if len(true) != len(pred):
        raise InputError(
            f"labels_true and labels_pred must have the same length, got {len(true)} and {len(pred)}; "
            "pass one true and one predicted label per row."
        )
    return _codes(true), _codes(pred)


def _vector(labels: Any, name: str) -> np.ndarray:
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise InputError(
            f"{name} must be one-dimensional, got shape {labels.shape}; pass one label per row (for soft assignments "
            "take the argmax over clusters first)."
        )
    if len(labels) == 0:
        raise InputError(f"{name} is empty; a score needs at least one row.")
    if labels.dtype.kind == "f" and not np.all(np.isfinite(labels) & (labels == np.trunc(labels))):
        raise InputError(
            f"{name} must be discrete, got fractional or non-finite values; pass integer or string labels."
        )
    if labels.dtype.kind not in "biufUSO":
        raise InputError(f"{name} must hold integers or strings, got dtype {labels.dtype}.")
    return labels


def _codes(labels: np.ndarray) -> np.ndarray:
    """Labels renumbered 0 … count−1 in sorted order; a dense range of integers is renumbered without sorting N rows."""
    if labels.dtype.kind in "biu":
        lowest, highest = int(labels.min()), int(labels.max())
        if highest - lowest <= 4 * len(labels) and highest < 2**62:
            shifted = labels.astype(np.int64) - lowest
            used = np.bincount(shifted) > 0
            return (np.cumsum(used) - 1)[shifted]
    if labels.dtype.kind == "O":
        labels = labels.astype(str)
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
