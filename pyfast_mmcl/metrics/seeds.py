"""Numbers that were measured once per seed: mean, standard deviation and confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real

from scipy.stats import t as student

from pyfast_mmcl._errors import InputError


@dataclass(frozen=True)
class Spread:
    """``count`` values as mean, sample standard deviation ``sd`` and confidence interval [``low``, ``high``]."""

    mean: float
    sd: float
    low: float
    high: float
    count: int


def over_seeds(values: Iterable[float], *, level: float = 0.95) -> Spread:
    """Mean, sample standard deviation and Student's confidence interval of the mean.

    ``s = sqrt(sum((x − mean)²) / (n − 1))`` and ``mean ± t[n − 1, (1 + level) / 2] · s / sqrt(n)``.

    The interval says where the mean over all seeds lies, under the assumption that values vary normally with the seed;
    it covers the randomness of seeds and nothing else (not the choice of test rows or of tasks).

    Args:
        values: n numbers, one per seed. One value has a mean and no spread (NaN); a NaN among them makes all NaN.
        level: the share of such intervals that hold the true mean, between 0 and 1 (default 0.95).

    Raises:
        InputError: no value at all, or a level that is not between 0 and 1.

    Reference: Student, *The probable error of a mean*, Biometrika 1908.
    """
    numbers = [float(value) for value in values]
    if not numbers:
        raise InputError("values: expected at least one number, got none.")
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 < level < 1:
        raise InputError(f"level: expected a share between 0 and 1, such as 0.95, got {level!r}.")
    n = len(numbers)
    if not all(map(math.isfinite, numbers)):
        return Spread(math.nan, math.nan, math.nan, math.nan, n)
    mean = statistics.fmean(numbers)
    if n == 1:
        return Spread(mean, math.nan, math.nan, math.nan, n)
    sd = statistics.stdev(numbers)
    half = float(student.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n)
    return Spread(mean, sd, mean - half, mean + half, n)


def paired_difference(ours: Mapping[int, float], other: Mapping[int, float], *, level: float = 0.95) -> Spread | None:
    """Spread of ``ours[seed] − other[seed]`` over the seeds that both have; None where they share no seed.

    What a seed does to both (order of tasks, rows, first weights) cancels, so that the interval is narrower than that
    of two independent means. Arguments and errors as in :func:`over_seeds`; both map a seed to its value.
    """
    shared = [seed for seed in ours if seed in other]
    return over_seeds((ours[seed] - other[seed] for seed in shared), level=level) if shared else None
