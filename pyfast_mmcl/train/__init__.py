"""The one training loop: learner, parts, memory, registry, checkpoints, progress."""

from importlib import import_module
from typing import Any

_HOME = {
    "GeneratedRows": "generator",
    "History": "history",
    "Learner": "learner",
    "Memory": "memory",
    "NonFiniteError": "terms",
    "Part": "part",
    "Replay": "parts",
    "ReplaySource": "memory",
    "default_model": "run",
    "frozen_features": "features",
    "recipe": "registry",
    "recipes": "registry",
    "run_continual": "run",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    # Resolved on first use: the registry, which every method imports, needs neither torch nor the learner.
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
