"""Methods by name: the name of a method is the stem of its file, and the family folder is its place in the survey."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from pyfast_mmcl._errors import InputError, unknown_name

Target = TypeVar("Target", bound=Callable[..., Any])

# The registry looks methods up by folder, so that the training room imports no method.
_ROOMS = {"recipe": "pyfast_mmcl.continual", "estimator": "pyfast_mmcl.clustering"}
_TRAINS_ON = ("current", "seen")
# The kinds of model that ``train.run.default_model`` builds, and the class of each, imported on first use. A class is
# called as ``Class.for_stream(models.Spec)``.
MODELS = {
    "classifier": "pyfast_mmcl.models.classifier:MultimodalClassifier",
    "clip": "pyfast_mmcl.models.clip:ClipModel",
    "columns": "pyfast_mmcl.models.columns:ProgressiveColumns",
    "dual encoder": "pyfast_mmcl.models.dual_encoder:DualEncoder",
    "masked": "pyfast_mmcl.models.masks:MaskedClassifier",
    "modality heads": "pyfast_mmcl.models.modality_heads:ModalityHeads",
    "sequence": "pyfast_mmcl.models.sequence_model:SequenceModel",
    "tokens": "pyfast_mmcl.models.token_classifier:TokenClassifier",
}


@dataclass(frozen=True)
class Entry:
    """One registered method.

    ``defaults`` are the keyword defaults of ``target`` (a recipe function or an estimator class), ``summary`` the first
    line of its docstring, ``path`` its file. ``trains_on`` says what the training data of a task is for a recipe:
    "current", the data of that task, or "seen", the data of all tasks so far (an upper bound, not a continual learner).
    ``model`` is the kind of model it needs, one of MODELS; most methods take any classifier.
    """

    name: str
    family: str
    paper: str
    summary: str
    defaults: dict[str, Any] = field(hash=False)
    target: Callable[..., Any]
    path: str
    trains_on: str = "current"
    model: str = "classifier"

    def build(self, **hyper: Any) -> Any:
        """Call ``target`` with ``hyper``. Raises UnknownNameError for an argument that it does not take."""
        known = inspect.signature(self.target).parameters
        for name in hyper:
            if name not in known:
                raise unknown_name(f"hyper-parameter of {self.name}", name, known)
        return self.target(**hyper)


_found: dict[str, dict[str, Entry]] = {"recipe": {}, "estimator": {}}
_walked: set[str] = set()


def recipe(
    *, family: str, paper: str, trains_on: str = "current", model: str = "classifier"
) -> Callable[[Target], Target]:
    """Register the decorated function, which returns a list of Parts, under the stem of its file."""
    if trains_on not in _TRAINS_ON:
        raise unknown_name("choice for trains_on", trains_on, _TRAINS_ON)
    if model not in MODELS:
        raise unknown_name("kind of model", model, MODELS)
    return lambda target: _register("recipe", target, family, paper, trains_on, model)


def estimator(*, family: str, paper: str) -> Callable[[Target], Target]:
    """Register the decorated clustering estimator class under the stem of its file."""
    return lambda target: _register("estimator", target, family, paper)


def recipes() -> dict[str, Entry]:
    """All continual-learning recipes, by name."""
    return _all("recipe")


def estimators() -> dict[str, Entry]:
    """All clustering estimators, by name."""
    return _all("estimator")


def get_recipe(name: str) -> Entry:
    """The recipe called ``name``. Raises UnknownNameError with the nearest names."""
    return _get("recipe", "method", name)


def get_estimator(name: str) -> Entry:
    """The clustering estimator called ``name``. Raises UnknownNameError with the nearest names."""
    return _get("estimator", "clustering method", name)


def model_class(kind: str) -> Any:
    """The class that stands behind a kind of model."""
    if kind not in MODELS:
        raise unknown_name("kind of model", kind, MODELS)
    module, name = MODELS[kind].split(":")
    return getattr(import_module(module), name)


def _get(kind: str, noun: str, name: str) -> Entry:
    entries = _all(kind)
    if name not in entries:
        raise unknown_name(noun, name, entries)
    return entries[name]


def _all(kind: str) -> dict[str, Entry]:
    if kind not in _walked:
        for module in method_modules(kind):
            import_module(module)
        _walked.add(kind)
    return dict(sorted(_found[kind].items()))


def method_modules(kind: str) -> list[str]:
    """Names of all modules in the folders of ``kind`` ("recipe" or "estimator"), found on disk.

    The files are listed rather than the packages: a family folder whose ``__init__.py`` is missing is still found.
    """
    room = _ROOMS[kind]
    modules = []
    for folder in import_module(room).__path__:
        for path in sorted(Path(folder).rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[-1] != "__init__":
                modules.append(".".join((room, *parts)))
    return modules


def _register(
    kind: str, target: Target, family: str, paper: str, trains_on: str = "current", model: str = "classifier"
) -> Target:
    path = _source(target)
    # In an interactive session there is no file, and the name of the object is the only name there is.
    name = Path(path).stem if Path(path).is_file() else target.__name__
    known = _found[kind].get(name)
    if known is not None and known.path != path:
        raise InputError(f"two methods are called {name!r}: {known.path} and {path}; rename one of the files.")
    if known is not None and known.target.__qualname__ != target.__qualname__:
        raise InputError(
            f"{path} registers both {known.target.__qualname__} and {target.__qualname__}; "
            f"a method is named after its file, so give each its own file."
        )
    summary = (inspect.getdoc(target) or "").split("\n", 1)[0]
    parameters = inspect.signature(target).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
    _found[kind][name] = Entry(name, family, paper, summary, defaults, target, path, trains_on, model)
    return target


def _source(target: Callable[..., Any]) -> str:
    try:
        return str(Path(inspect.getfile(target)).resolve())
    except (TypeError, OSError):
        return f"<{target.__module__}>"
