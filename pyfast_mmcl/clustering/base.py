"""`Estimator`: scikit-learn's manners, for NumPy arrays, torch tensors on any device and memory maps."""

from __future__ import annotations

import numbers
import operator
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.how_many import check_how_many, decide
from pyfast_mmcl.clustering.inputs import Rows, read_rows
from pyfast_mmcl.clustering.views import ViewScaling, is_views, join_views


class Estimator(ClusterMixin, BaseEstimator):
    """What every clustering estimator shares: reading input, checking it, answering in kind.

    A subclass stores its parameters in ``__init__`` and does nothing else there; ``fit(X, y=None)`` reads X through
    ``_read_fit``, sets attributes that end in ``_`` and returns ``self``; ``predict`` and ``transform`` read through
    ``_read_new``. ``labels_`` (and what ``predict`` returns) is int64 [N]. NumPy in gives NumPy out; a torch tensor in
    gives tensors on its device. Precision: see :mod:`pyfast_mmcl.clustering.inputs`. A dict or list of views is joined
    to one table (``clustering.views``) by estimators that have no use of their own for views.

    ``n_clusters`` is a number or a criterion of ``clustering.how_many`` ("auto", "silhouette", "gap", "x-means",
    "g-means"), and ``n_clusters_`` the number used.
    """

    _views: ViewScaling | None
    n_clusters: Any

    def _count_clusters(self, rows: Any, rng: np.random.Generator) -> int:
        """K, kept as ``n_clusters_``: ``n_clusters``, or what its criterion finds in ``rows`` (Rows or Samples).

        Nothing is drawn from ``rng`` where ``n_clusters`` is a number.
        """
        N = rows.total if isinstance(rows, Rows) else len(rows)
        if isinstance(self.n_clusters, str):
            check_how_many(self.n_clusters)

            def take(picked: np.ndarray) -> Tensor:
                return rows.take(torch.from_numpy(picked) if not isinstance(rows, Rows) else picked)

            self.n_clusters_ = decide(take, N, self.n_clusters, rng).n_clusters
        else:
            self.n_clusters_ = check_n_clusters(self.n_clusters, N)
        return self.n_clusters_

    def _read_fit(self, X: Any) -> Rows:
        """X of ``fit``: checked; its number of features (with their names, for a data frame) and precision are kept."""
        X = self._joined(X, reset=True)
        rows = read_rows(X)
        self._check_features(X, rows, reset=True)
        self._fit_dtype = rows.center_dtype
        return rows

    def _read_new(self, X: Any) -> Rows:
        """X of ``predict`` and its kin: checked against what ``fit`` saw, and read in the precision of ``fit``.

        The precision must not be chosen anew: the answer for a row would depend on the rows beside it.
        """
        check_is_fitted(self)
        X = self._joined(X, reset=False)
        rows = read_rows(X, dtype=self._fit_dtype)
        self._check_features(X, rows, reset=False)
        return rows

    def _joined(self, X: Any, *, reset: bool) -> Any:
        """X, or the views of X as one table, joined as in ``fit``."""
        if not is_views(X):
            if not reset and getattr(self, "_views", None) is not None:
                raise InputError(f"expected the views {list(self._views.names)} as in fit, got a single table.")
            self._views = None if reset else self._views
            return X
        if not reset and self._views is None:
            raise InputError("expected a single table as in fit, got views.")
        table, scaling = join_views(X, None if reset else self._views)
        self._views = scaling
        return table

    def _check_features(self, X: Any, rows: Rows, *, reset: bool) -> None:
        # scikit-learn compares names and numbers of features; of anything but a data frame it needs the shape alone.
        named = hasattr(X, "columns") or hasattr(X, "__dataframe__")
        try:
            validate_data(self, X if named else np.zeros((1, rows.shape[1])), reset=reset, skip_check_array=True)
        except ValueError as error:
            raise InputError(str(error)) from error


def whole_number(value: Any, name: str, *, least: int = 1) -> int:
    """``value`` as an int ≥ ``least``; InputError for anything else (booleans and whole floats included)."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool) and operator.index(value) >= least:
        return operator.index(value)
    raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def check_n_clusters(n_clusters: Any, N: int) -> int:
    """K between 1 and N."""
    K = whole_number(n_clusters, "n_clusters")
    if K > N:
        raise InputError(
            f"n_clusters={K} needs at least {K} rows, got n_samples={N}; ask for fewer clusters or pass more rows."
        )
    return K


def generator(random_state: Any) -> np.random.Generator:
    """A generator of one's own from None (fresh entropy), an int, a Generator (used on) or a legacy RandomState."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31)
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"random_state must be None, a non-negative int or a NumPy generator, got {random_state!r}."
        ) from error


def number_in(value: Any, name: str, *, least: float = 0.0, above: bool = False) -> float:
    """``value`` as a finite float ≥ ``least`` (> with ``above``); InputError for anything else."""
    fits = isinstance(value, numbers.Real) and not isinstance(value, bool) and np.isfinite(float(value))
    if fits and (value > least if above else value >= least):
        return float(value)
    raise InputError(f"{name} must be a finite number {'above' if above else 'of at least'} {least:g}, got {value!r}.")
