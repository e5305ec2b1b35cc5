"""The stream of `pyfast-mmcl train --stream`: one that comes with the package, or the user's own file or folder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ._errors import InputError, unknown_name
from .data import Stream

# Arguments of Stream.from_dataset that every stream passes on.
DEALING = ("validation", "task_order", "class_order", "missing", "missing_at_test", "long_tail", "task_modalities")
_OWN = ("objective", "test")


def is_path(stream: str) -> bool:
    """Whether ``--stream`` names a file or folder of the user and not a stream of the package."""
    from .data.streams import STREAMS
    from .data.table import ENDINGS

    return stream not in STREAMS and ("/" in stream or stream.lower().endswith(ENDINGS) or Path(stream).exists())


def located(stream: str | None) -> str | None:
    """``stream`` with a path made absolute, so that a run resumes from any folder."""
    return str(Path(stream).resolve()) if stream is not None and is_path(stream) else stream


def build_stream(options: Mapping[str, Any]) -> Stream:
    """The stream that the options of a run describe: stream, scenario, tasks, seed and stream_set.

    Raises InputError or UnknownNameError for a stream, file or argument that does not exist, and whatever is wrong with
    a user's own data.
    """
    name, own = options["stream"], is_path(options["stream"])
    make = _of_path(Path(name)) if own else _of_name(name)
    named = {"scenario": options["scenario"], "n_tasks": options["tasks"], "seed": options["seed"]}
    for key in ("scenario", "n_tasks"):
        if named[key] is not None and options["stream_set"].get(key, named[key]) != named[key]:
            option = "--scenario" if key == "scenario" else "--tasks"
            raise InputError(f"{option} {named[key]} and --stream-set {key} contradict each other; give one of them.")
    given = {**{key: value for key, value in named.items() if value is not None}, **options["stream_set"]}
    _check_arguments(make, given, own)
    try:
        return make(**given)
    except (TypeError, AttributeError) as error:
        # A value of the wrong kind, such as a word for a table of shares; only what was set by hand can be one.
        if not options["stream_set"]:
            raise
        raise InputError(f"--stream-set: {options['stream_set']} does not fit stream {name!r} ({error}).") from error


def _of_name(name: str) -> Callable[..., Stream]:
    from .data import get_stream

    return get_stream(name)


def _of_path(path: Path) -> Callable[..., Stream]:
    from functools import partial

    from .data import image_folder_stream, manifest_stream

    if not path.exists():
        raise InputError(f"--stream {path}: no such file or folder; give a manifest or a folder of pictures.")
    return partial(image_folder_stream if path.is_dir() else manifest_stream, path)


def _check_arguments(make: Callable[..., Stream], given: Mapping[str, Any], own: bool) -> None:
    taken = inspect.signature(make).parameters
    known = [name for name, p in taken.items() if p.kind is not p.VAR_KEYWORD]
    known += [*DEALING, *(_OWN if own else ())]
    for name in given:
        if name not in known:
            raise unknown_name("argument of the stream", name, known)
