"""Files that are either the old ones or the new ones, never half of each."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyfast_mmcl._errors import InputError


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a new file beside ``path``, flush it to the disk and put it in the place of ``path``.

    A crash leaves the old file; an error of ``write`` leaves the old file and no new one.
    """
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    # Made here rather than by tempfile, whose files nobody else may read.
    new.touch(exist_ok=False)
    try:
        write(new)
        flush(new)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    flush(path.parent)


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    replace_file(path, lambda new: new.write_text(text, encoding="utf-8"))


def as_folder(name: str, value: Any) -> Path:
    """The path of a folder, given as text or Path. Raises InputError for anything else."""
    if isinstance(value, str | os.PathLike):
        return Path(value)
    raise InputError(f"{name}: expected the path of a folder or None, got {value!r}.")


def flush(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
