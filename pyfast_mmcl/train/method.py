"""A method ready to run: its parts, by whatever way the user named it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.identity import told
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.registry import Entry, get_recipe, recipes


@dataclass(frozen=True)
class Method:
    """Parts in the order of their hooks; hyper: the arguments they were made with; trains_on as in Entry.

    arguments: of the parts of a list, what each was made with; hyper says it of a recipe's.
    """

    name: str
    parts: list[Part]
    hyper: dict[str, Any]
    trains_on: str = "current"
    arguments: dict[str, Any] = field(default_factory=dict)


def as_method(method: Any, hyper: dict[str, Any]) -> Method:
    """The method given as name, Entry, registered recipe function, or list of Parts.

    Raises UnknownNameError for an unknown name or hyper-parameter, InputError for anything else that is no method.
    """
    if not isinstance(hyper, Mapping):
        raise InputError(f"hyper: expected {{name: value}} of a recipe's arguments or None, got {hyper!r}.")
    if isinstance(method, Sequence) and not isinstance(method, str):
        if hyper:
            raise InputError(
                f"hyper-parameters {sorted(hyper)}: they go with a recipe; set them in the parts themselves."
            )
        name = "+".join(part.name for part in method if isinstance(part, Part))
        made = _checked(Method(name, list(method), {}))
        return replace(made, arguments=_arguments(made.parts))
    entry = _entry(method)
    parts = entry.build(**hyper)
    return _checked(Method(entry.name, list(parts), _plain({**entry.defaults, **hyper}), entry.trains_on))


def model_kind(method: Any) -> str:
    """The kind of model that a method needs, one of registry.MODELS; a list of Parts is taken to need a classifier."""
    return "classifier" if isinstance(method, Sequence) and not isinstance(method, str) else _entry(method).model


def _entry(method: Any) -> Entry:
    if isinstance(method, Entry):
        return method
    if isinstance(method, str):
        return get_recipe(method)
    for entry in recipes().values():
        if entry.target is method:
            return entry
    raise InputError(
        f"method: expected the name of a recipe, a recipe or a list of Parts, got {type(method).__name__}."
    )


def _checked(method: Method) -> Method:
    for part in method.parts:
        if not isinstance(part, Part):
            raise InputError(f"method {method.name}: expected a list of Parts, got {part!r} in it.")
    if not method.parts:
        raise InputError("method: expected at least one Part, got an empty list.")
    answering = [part.name for part in method.parts if type(part).predict is not Part.predict]
    if len(answering) > 1:
        raise InputError(f"method {method.name}: only one part may give predictions, got {answering}.")
    return method


def _arguments(parts: Sequence[Any]) -> dict[str, Any]:
    """{"1 Replay": {name: value}}: what fresh parts hold, which is what their constructors stored."""
    return {
        f"{place} {type(part).__name__}": {
            name: told(value) for name, value in vars(part).items() if not name.endswith("_")
        }
        for place, part in enumerate(parts, 1)
    }


def _plain(hyper: dict[str, Any]) -> dict[str, Any]:
    """The same with values that JSON knows; functions by their name, which another process shares; others by text."""
    hyper = {name: value.item() if getattr(value, "ndim", None) == 0 else value for name, value in hyper.items()}
    known = (bool, int, float, str, type(None))
    named = {name: getattr(value, "__qualname__", None) or repr(value) for name, value in hyper.items()}
    return {name: value if isinstance(value, known) else named[name] for name, value in hyper.items()}
