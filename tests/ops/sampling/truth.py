"""Definitions in plain Python and whole numbers, written apart from the package; statistics of counts."""

import itertools
import math

import numpy as np
import torch
from scipy import stats


def splitmix_key(seed_state: int, index: int) -> int:
    """The 64-bit word of an id, as a signed number; ``seed_state`` is the mixed seed."""
    word = (1 << 64) - 1
    z = (seed_state + index * 0x9E3779B97F4A7C15) & word
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & word
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & word
    z ^= z >> 31
    return z - (1 << 64) if z >> 63 else z


def seats(counts, capacity, weights=None):
    """Seats handed out one by one: always the smallest ((s − ½)/w, s, g) that is free."""
    given = [0] * len(counts)
    weights = [1.0] * len(counts) if weights is None else weights
    for _ in range(min(capacity, sum(counts))):
        free = [g for g in range(len(counts)) if given[g] < counts[g]]

        def place(g):
            return ((given[g] + 0.5) / weights[g] if weights[g] else math.inf, given[g], g)

        given[min(free, key=place)] += 1
    return given


def best(keys, ids, capacity, groups=None):
    """Positions of `merge_reservoir`, row by row."""
    order, seen = [], set()
    for row in sorted(range(len(ids)), key=lambda i: (-keys[i], ids[i], i)):
        if ids[row] not in seen:
            seen.add(ids[row])
            order.append(row)
    if groups is None:
        return order[:capacity]
    names = sorted({groups[row] for row in order})
    quota = dict(zip(names, seats([sum(groups[r] == n for r in order) for n in names], capacity), strict=True))
    kept = []
    for row in order:
        if quota[groups[row]]:
            quota[groups[row]] -= 1
            kept.append(row)
    return kept


def draw_order_probabilities(weights, k):
    """{ordered k-tuple: probability} of successive draws without replacement."""
    found = {}
    for order in itertools.permutations(range(len(weights)), k):
        left, p = sum(weights), 1.0
        for i in order:
            p *= weights[i] / left
            left -= weights[i]
        found[order] = p
    return found


def subset_probabilities(weights, k):
    """{sorted k-tuple: probability} of the set drawn."""
    found = {}
    for order, p in draw_order_probabilities(weights, k).items():
        found[tuple(sorted(order))] = found.get(tuple(sorted(order)), 0.0) + p
    return found


def herding_of_integers(rows, m):
    """argmin_j ‖μ − (S + f_j)/k‖ of whole-number rows, without rounding: its square is ‖kT − n(S + f_j)‖²/(nk)²."""
    f = [[int(v) for v in row] for row in rows]
    n, whole = len(f), [sum(column) for column in zip(*f, strict=True)]
    chosen, total = [], [0] * len(whole)
    for k in range(1, min(m, n) + 1):
        cost = {
            j: sum((k * t - n * (s + v)) ** 2 for t, s, v in zip(whole, total, f[j], strict=True))
            for j in range(n)
            if j not in chosen
        }
        pick = min(cost, key=lambda j: (cost[j], j))
        chosen.append(pick)
        total = [s + v for s, v in zip(total, f[pick], strict=True)]
    return chosen


def assert_herding(order, features):
    """Every pick of ``order`` brings the running mean nearest to the mean, up to what ties by definition."""
    f = torch.as_tensor(features).double().numpy()
    mean, total, left = f.mean(0), np.zeros(f.shape[1]), np.ones(len(f), dtype=bool)
    assert len(set(order)) == len(order)
    for k, pick in enumerate(order, 1):
        distance = ((mean - (total + f) / k) ** 2).sum(1)
        distance[~left] = np.inf
        scale = (f**2).sum(1).max() + 1e-300
        # twice the tie of herding: 2⁻⁴⁴·k·n·max‖f‖² of a score that is n·k² squared distances
        assert distance[pick] <= distance.min() + 2.0**-43 / k * scale, f"pick {k} is {pick}, not {distance.argmin()}"
        total, left[pick] = total + f[pick], False


def farthest_points(rows, m, first=None, centers=()):
    """Gonzalez's picks of whole-number rows, without rounding, and the squared radius."""
    f = [[int(v) for v in row] for row in rows]
    n, whole = len(f), [sum(column) for column in zip(*f, strict=True)]

    def gap(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    known, chosen = [list(map(int, c)) for c in centers], []
    for _ in range(min(m, n)):
        free = [j for j in range(n) if j not in chosen]
        if known:
            pick = max(free, key=lambda j: (min(gap(f[j], c) for c in known), -j))
        elif first is not None:
            pick = first
        else:
            pick = min(free, key=lambda j: (gap([n * v for v in f[j]], whole), j))
        chosen.append(pick)
        known.append(f[pick])
    return chosen, max(min(gap(row, c) for c in known) for row in f)


def assert_frequencies(counts, probabilities, least=1e-4):
    """Chi-square of counts of independent outcomes against their exact probabilities; probability 0 means never."""
    counts, p = np.asarray(counts, dtype=float), np.asarray(probabilities, dtype=float)
    assert counts[p == 0].sum() == 0, "an outcome of probability 0 occurred"
    counts, p = counts[p > 0], p[p > 0]
    if len(p) == 1:
        return
    found = stats.chisquare(counts, counts.sum() * p / p.sum())
    assert found.pvalue > least, f"chi-square {found.statistic:.1f} of {len(p)} outcomes, p = {found.pvalue:.2e}"


def assert_equal_chances(counts, samples, drawn, least=1e-4):
    """Counts of N rows in ``samples`` samples of ``drawn`` without replacement: all chances are equal."""
    counts = np.asarray(counts, dtype=float)
    n = len(counts)
    assert counts.sum() == samples * drawn
    variance = samples * drawn / n * (1 - drawn / n)
    statistic = ((counts - samples * drawn / n) ** 2).sum() / variance * (n - 1) / n
    assert stats.chi2.sf(statistic, n - 1) > least, f"chi-square {statistic:.1f} with {n - 1} degrees of freedom"
