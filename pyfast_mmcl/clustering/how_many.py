"""How many clusters? The one place where ``n_clusters="auto"`` and its criteria are decided, for every estimator.

"silhouette" (what "auto" means), "gap", "x-means" and "g-means" are read off k-means on a sample of the rows, whose
draws come from the estimator's own generator: the same seed gives the same K, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import log_ndtr
from torch import Tensor

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.clustering.distances import every_cost
from pyfast_mmcl.clustering.init import kmeans_plus_plus
from pyfast_mmcl.clustering.inputs import Rows, read_rows
from pyfast_mmcl.clustering.lloyd import Fit, lloyd
from pyfast_mmcl.metrics.silhouette import silhouette_of_distances

SAMPLE = 4096  # rows that k-means is tried on
MOST = 64  # clusters tried at most, unless the caller asks for more
_PAIRS = 1024  # rows whose distances to each other silhouettes are read off
_REFERENCES = 10  # uniform sets of the gap statistic
_GAP_SAMPLE = 1024  # rows of the sample the gap statistic uses: it clusters eleven sets for every K
_RUNS = 4  # runs of k-means for every K, of which the best counts
_ITERATIONS = 50
_STEP = 1.25  # ratio of successive K beyond the first few on the coarse grid
_FIRST = 12  # every K up to here is tried
_FEWEST = 16  # rows of a cluster that g-means may halve
_NOT_NORMAL = 1.8692  # the Anderson–Darling statistic beyond this: normal rows exceed it once in ten thousand times


@dataclass(frozen=True)
class HowMany:
    """A decision: ``n_clusters``, the criterion, and its ``scores`` {K: value} (larger is better) for every K tried."""

    n_clusters: int
    criterion: str
    scores: dict[int, float] = field(default_factory=dict)


def how_many(
    X: Any, criterion: str = "auto", *, most: int | None = None, random_state: Any = None, sample: int = SAMPLE
) -> HowMany:
    """The number of clusters in X [N, D] by k-means on at most ``sample`` of its rows.

    "silhouette" (or "auto"): largest mean of ``(b − a) / max(a, b)``, a and b the mean distances of a row to its own
    and to the nearest other cluster; at least 2. "gap": smallest K whose ``E log W_uniform − log W`` is not clearly
    beaten by that of K + 1; may be 1. "x-means": clusters are halved as long as the BIC of spherical Gaussians gains;
    may be 1; of clusters that are not spherical it finds too many. "g-means": clusters are halved as long as their rows
    are not normal along the line between the halves (Anderson–Darling, level 10⁻⁴; the halves are found on half of the
    rows, and the others tested); may be 1; clusters may be stretched, but those of other shapes fall into several.

    Args:
        X: rows as every estimator takes them.
        criterion: "auto" | "silhouette" | "gap" | "x-means" | "g-means".
        most: largest K considered; default min(64, rows of the sample).
        random_state: None, an int or a NumPy Generator.
        sample: rows that are looked at.

    Raises:
        InputError: bad rows, unknown criterion.

    Reference: Rousseeuw, J. Comput. Appl. Math. 1987 (silhouette); Tibshirani, Walther and Hastie, J. R. Stat. Soc. B
    2001 (gap); Pelleg and Moore, *X-means*, ICML 2000; Hamerly and Elkan, *Learning the k in k-means*, NIPS 2003
    (g-means, which finds and tests the halves on the same rows: in many features these are never normal).
    """
    rows = X if isinstance(X, Rows) else read_rows(X)
    return decide(rows.take, len(rows), criterion, np.random.default_rng(random_state), most=most, sample=sample)


def decide(
    take: Callable[[np.ndarray], Tensor],
    N: int,
    criterion: str,
    rng: np.random.Generator,
    *,
    most: int | None = None,
    sample: int = SAMPLE,
) -> HowMany:
    """As :func:`how_many`, for N rows that ``take(indices)`` → [n, …] hands out."""
    if criterion not in CRITERIA:
        raise unknown_name("n_clusters", criterion, CRITERIA)
    picked = np.sort(rng.choice(N, size=min(N, sample), replace=False))
    some = take(picked).flatten(1)
    rows = Rows(some, torch.float64 if some.dtype == torch.float64 else torch.float32)
    limit = min(MOST if most is None else most, len(rows))
    if limit < 1:
        raise InputError(f"most must be at least 1, got {most!r}.")
    if limit == 1 or not rows.variance():
        return HowMany(1, criterion)
    return CRITERIA[criterion](rows, limit, rng)


def check_how_many(n_clusters: Any) -> None:
    """InputError unless ``n_clusters`` names a criterion."""
    if not isinstance(n_clusters, str) or n_clusters not in CRITERIA:
        raise InputError(
            f"n_clusters must be a whole number of at least 1 or one of {', '.join(map(repr, CRITERIA))}, "
            f"got {n_clusters!r}."
        )


class _Kmeans:
    """K-means on ``rows`` for one K after the other, up to ``limit``: the best of a few runs.

    The first K of the centres that k-means++ draws one by one are a start for K clusters: they are drawn once for
    many K, and again, twice as many, where these do not suffice.
    """

    def __init__(self, rows: Rows, limit: int, rng: np.random.Generator, runs: int = _RUNS) -> None:
        self._rows, self._limit, self._rng, self._runs = rows, limit, rng, runs
        self._tol = 1e-4 * rows.variance()
        self._starts: list[Tensor] = []
        self._drawn = 0

    def __call__(self, K: int) -> Fit:
        if K > self._drawn:
            self._drawn = min(max(2 * self._drawn, K, _FIRST), self._limit)
            self._starts = [kmeans_plus_plus(self._rows, self._drawn, self._rng) for _ in range(self._runs)]
        fits = (lloyd(self._rows, start[:K], tol=self._tol, max_iter=_ITERATIONS) for start in self._starts)
        return min(fits, key=lambda fit: fit.inertia)


def _by_silhouette(rows: Rows, limit: int, rng: np.random.Generator) -> HowMany:
    limit = min(limit, len(rows) - 1)
    if limit < 2:
        return HowMany(1, "silhouette")
    chosen = np.sort(rng.choice(len(rows), size=min(_PAIRS, len(rows)), replace=False))
    pairs = Rows(rows.take(chosen), rows.center_dtype)
    squares = every_cost(pairs, pairs.take(np.arange(len(pairs))), metric="l2", backend="auto")
    distances = np.sqrt(squares)

    kmeans = _Kmeans(rows, limit, rng)

    def score(K: int) -> float:
        labels = kmeans(K).labels.cpu().numpy()
        return silhouette_of_distances(distances, labels[chosen])

    scores: dict[int, float] = {K: score(K) for K in _grid(limit)}
    tried = sorted(scores)
    place = tried.index(_best(scores))
    low, high = tried[max(place - 1, 0)], tried[min(place + 1, len(tried) - 1)]
    scores |= {K: score(K) for K in range(low + 1, high) if K not in scores}
    return HowMany(_best(scores), "silhouette", scores)


def _best(scores: dict[int, float]) -> int:
    return max(sorted(scores), key=lambda K: scores[K])  # max keeps the first of equals: the smallest K


def _grid(limit: int) -> list[int]:
    """K from 2 to ``limit``: all of the first, then in a geometric row."""
    grid, K = list(range(2, min(_FIRST, limit) + 1)), float(_FIRST)
    while (K := K * _STEP) <= limit:
        grid.append(int(K))
    return grid


def _by_gap(rows: Rows, limit: int, rng: np.random.Generator) -> HowMany:
    if len(rows) > _GAP_SAMPLE:
        rows = Rows(rows.take(np.sort(rng.choice(len(rows), _GAP_SAMPLE, replace=False))), rows.center_dtype)
    limit = min(limit, len(rows) - 1)  # as many clusters as rows leave nothing to compare
    kmeans = _Kmeans(rows, limit, rng)
    uniform = [_Kmeans(_uniform_like(rows, rng), limit, rng, runs=1) for _ in range(_REFERENCES)]
    gaps: dict[int, float] = {}
    for K in range(1, limit + 1):
        expected = np.array([np.log(reference(K).inertia) for reference in uniform])
        within = kmeans(K).inertia
        gap = float(expected.mean() - np.log(within)) if within > 0 else np.inf
        slack = float(expected.std() * np.sqrt(1 + 1 / _REFERENCES))
        if K > 1 and gaps[K - 1] >= gap - slack:
            return HowMany(K - 1, "gap", gaps | {K: gap})
        gaps[K] = gap
        if within == 0:
            break
    return HowMany(max(gaps), "gap", gaps)


def _uniform_like(rows: Rows, rng: np.random.Generator) -> Rows:
    """As many rows, uniform in the box around the principal components (Tibshirani et al., section 4, choice b)."""
    x = rows.take(np.arange(len(rows))).double().cpu().numpy()
    mean = x.mean(axis=0)
    _, axes = np.linalg.eigh(np.einsum("nd,ne->de", x - mean, x - mean))
    turned = np.einsum("nd,de->ne", x - mean, axes)
    drawn = rng.uniform(turned.min(axis=0), turned.max(axis=0), size=x.shape)
    back = np.einsum("ne,de->nd", drawn, axes) + mean
    return Rows(torch.from_numpy(back).to(device=rows.device, dtype=rows.center_dtype), rows.center_dtype)


def _by_x_means(rows: Rows, limit: int, rng: np.random.Generator) -> HowMany:
    fit = _divide(rows, limit, rng, _halves)
    kept = int((fit.counts > 0).sum())
    return HowMany(kept, "x-means", {kept: bic(fit.inertia, fit.counts.cpu().numpy(), rows.shape[1])})


def _by_g_means(rows: Rows, limit: int, rng: np.random.Generator) -> HowMany:
    fit = _divide(rows, limit, rng, _halves_unless_normal)
    return HowMany(int((fit.counts > 0).sum()), "g-means")


def _divide(
    rows: Rows, limit: int, rng: np.random.Generator, halve: Callable[[Rows, np.random.Generator], Tensor | None]
) -> Fit:
    """K-means whose clusters are halved, all at once and again, while ``halve`` gives centres of halves."""
    fit = _Kmeans(rows, 1, rng, runs=1)(1)
    while (K := len(fit.centers)) < limit:
        labels = fit.labels.cpu().numpy()
        centers: list[Tensor] = []
        for k in range(K):
            part = Rows(rows.take(np.flatnonzero(labels == k)), rows.center_dtype)
            halves = halve(part, rng) if len(centers) + K - k < limit and len(part) else None
            centers += [fit.centers[k]] if halves is None else list(halves)
        if len(centers) == K:
            break
        fit = lloyd(rows, torch.stack(centers), tol=1e-4 * rows.variance(), max_iter=_ITERATIONS)
    return fit


def _halves(part: Rows, rng: np.random.Generator) -> Tensor | None:
    """The centres [2, D] of two halves of a cluster where these have the larger BIC."""
    if len(part) < 4 or not part.variance():
        return None
    kmeans = _Kmeans(part, 2, rng)
    one, two = kmeans(1), kmeans(2)
    D = part.shape[1]
    gain = bic(two.inertia, two.counts.cpu().numpy(), D) - bic(one.inertia, one.counts.cpu().numpy(), D)
    return two.centers if gain > 0 else None


def _halves_unless_normal(part: Rows, rng: np.random.Generator) -> Tensor | None:
    """The centres [2, D] of two halves of a cluster whose rows are not normal along the line between them."""
    if len(part) < _FEWEST or not part.variance():
        return None
    mixed = rng.permutation(len(part))
    seen, unseen = (np.sort(half) for half in np.array_split(mixed, 2))
    some = Rows(part.take(seen), part.center_dtype)
    halves = _Kmeans(some, 2, rng)(2).centers if some.variance() else None
    if halves is None:
        return None
    line = (halves[1] - halves[0]).double().cpu().numpy()
    along = np.einsum("nd,d->n", part.take(unseen).double().cpu().numpy(), line)
    return halves if anderson_darling(along) > _NOT_NORMAL else None


def anderson_darling(x: np.ndarray) -> float:
    """How far values [n] are from normal ones of the same mean and variance; 0 where these do not vary.

    ``A² = −n − mean((2i − 1)(log Φ(y_i) + log(1 − Φ(y_{n+1−i}))))`` of the sorted, standardised y, times
    ``1 + 4 / n − 25 / n²``.

    Reference: Stephens, *EDF statistics for goodness of fit*, JASA 1974; Hamerly and Elkan 2003, section 3.
    """
    n, spread = len(x), x.std(ddof=1)
    if not spread > 0:
        return 0.0
    y = np.sort((x - x.mean()) / spread)
    odd = 2 * np.arange(1, n + 1) - 1
    statistic = -n - (odd * (log_ndtr(y) + log_ndtr(-y[::-1]))).mean()
    return float(statistic * (1 + 4 / n - 25 / n**2))


def bic(inertia: float, counts: np.ndarray, D: int) -> float:
    """BIC of K spherical Gaussians of one variance: ``log L − (K·D + K) / 2 · log n``; larger is better.

    ``log L = Σ_k n_k log(n_k / n) − n·D/2 · (log(2π σ²) + 1)`` with the maximum-likelihood ``σ² = inertia / (n·D)``,
    and K − 1 shares, K·D means and one variance as parameters. Pelleg and Moore 2000, section 3.2.
    """
    counts = counts[counts > 0].astype(np.float64)
    n, K = counts.sum(), len(counts)
    variance = max(inertia / (n * D), np.finfo(np.float64).tiny)
    likelihood = (counts * np.log(counts / n)).sum() - 0.5 * n * D * (np.log(2 * np.pi * variance) + 1)
    return float(likelihood - 0.5 * K * (D + 1) * np.log(n))


CRITERIA: dict[str, Callable[[Rows, int, np.random.Generator], HowMany]] = {
    "auto": _by_silhouette,
    "silhouette": _by_silhouette,
    "gap": _by_gap,
    "x-means": _by_x_means,
    "g-means": _by_g_means,
}
