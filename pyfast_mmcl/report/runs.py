"""A run's folder: what was asked (run.json), what came out, and writes that are whole or absent."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .. import __version__
from .._errors import BackendError, CheckpointError, InputError

RECORD = "run.json"
PAGE = "report.html"
# What a finished run of each kind wrote.
RESULTS = {"demo": "demo.json", "train": "history.json", "cluster": "summary.json"}
FORMAT = 1


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes `path` when the block ends well: readers see the old file or the new one,
    never a part, also after a power cut."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write `record` as JSON, whole or not at all; NaN is refused because JSON has none."""
    data = json.dumps(record, indent=2, allow_nan=False) + "\n"
    with whole_file(path) as stream:
        stream.write(data.encode())


def write_array(path: Path, array: np.ndarray) -> None:
    """Write `array` as .npy, whole or not at all."""
    with whole_file(path) as stream:
        np.save(stream, array, allow_pickle=False)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; CheckpointError when it is missing, cut or not an object."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; is this the folder of a run?") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: expected a JSON record, but it is cut or damaged ({error}).") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(record).__name__}.")
    return record


def write_record(folder: Path, kind: str, options: dict[str, Any], **extra: Any) -> None:
    """Write run.json: the kind of run, its options and the versions it ran with."""
    record = {"format": FORMAT, "kind": kind, "options": options, "versions": versions(), **extra}
    write_json(folder / RECORD, record)


def read_record(folder: Path) -> dict[str, Any]:
    """Read and check run.json; CheckpointError for a folder that is not a run of this version."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: expected the folder of a run, found no such folder.")
    record = read_json(folder / RECORD)
    if record.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder}: written in format {record.get('format')}, but this version reads format "
            f"{FORMAT}; use the version that wrote it ({_writer(record)})."
        )
    if not isinstance(record.get("options"), dict) or not isinstance(record.get("kind"), str):
        raise CheckpointError(f"{folder / RECORD}: the kind or the options of the run are missing; it was edited.")
    return record


def _writer(record: dict[str, Any]) -> str:
    written = record.get("versions")
    return str(written.get("pyfast_mmcl", "unknown")) if isinstance(written, dict) else "unknown"


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    import torch

    return {
        "pyfast_mmcl": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def occupied(out: Path) -> bool:
    """Whether `out` is a file or holds anything but the unfinished temporary files of a killed run."""
    if not out.is_dir():
        return out.exists()
    return any(not (p.name.startswith(".") and p.name.endswith(".tmp")) for p in out.iterdir())


@contextmanager
def claimed(out: Path, kind: str, options: dict[str, Any]) -> Iterator[None]:
    """A run's folder with its record written first; a refusal of the input before the first result removes it again."""
    made = _make_parents(out.absolute())
    if not (out / RECORD).exists():
        write_record(out, kind, options)
    try:
        yield
    except (InputError, BackendError):
        if not any(p.is_file() and p.name != RECORD for p in out.rglob("*")):
            shutil.rmtree(out)
            _remove_parents(made[:-1])
        raise


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears as `out` only when the block ends well; on any error nothing is left behind.

    Raises InputError when `out` is a file or holds something already.
    """
    if occupied(out):
        raise InputError(f"{out} exists already; choose another --out or remove it.")
    made = _make_parents(out.absolute().parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.absolute().parent))
    except OSError:
        _remove_parents(made)
        raise
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        os.replace(temporary, out)
    except BaseException:
        shutil.rmtree(temporary)
        _remove_parents(made)
        raise


def _make_parents(folder: Path) -> list[Path]:
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    made = []
    for path in reversed(missing):
        path.mkdir()
        made.append(path)
    return made


def _remove_parents(made: list[Path]) -> None:
    # Only what this call made, and only while it is empty: another run may have moved in.
    for path in reversed(made):
        if not any(path.iterdir()):
            path.rmdir()
