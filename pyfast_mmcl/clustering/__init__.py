"""Clustering estimators in scikit-learn's manner: one folder per prior of the survey, one file per method.

Every registered estimator is found here by the name of its class: ``from pyfast_mmcl.clustering import KMeans, DEC``;
``save_estimator`` and ``load_estimator`` keep what they learnt. Neighbours of all rows among themselves and their graph
come from ``neighbors_of``, ``knn_graph`` and their kin (``clustering.neighbors``).
"""

from importlib import import_module
from typing import Any

_HOME = {
    **{"Training": "deep", "load_estimator": "saving", "save_estimator": "saving"},
    **dict.fromkeys(("knn_graph", "mutual_neighbors", "nearest_rows", "neighbors_of", "shared_neighbors"), "neighbors"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    # Modules and private names are looked for while the estimators are still being imported.
    if not name.startswith("_") and name[:1].isupper():
        found = _classes()
        if name in found:
            return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_classes()})


def _classes() -> dict[str, Any]:
    from pyfast_mmcl.train.registry import estimators

    return {entry.target.__name__: entry.target for entry in estimators().values()}
