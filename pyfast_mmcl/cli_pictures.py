"""The pictures of a folder that `pyfast-mmcl cluster` is given: which there are, and which can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import InputError

_NAMED = 3  # broken pictures that a sentence names


@dataclass(frozen=True)
class Pictures:
    """Pictures below ``root`` that can be read, and the names of those that cannot.

    pixels  uint8 [N, 3, size, size], where they were asked for
    """

    root: Path
    files: list[Path]
    skipped: tuple[str, ...]
    pixels: np.ndarray | None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pictures that can be read, from the folder on."""
        return tuple(_name(path, self.root) for path in self.files)


def open_pictures(root: Path, *, size: int | None, skip_broken: bool) -> Pictures:
    """All pictures below a folder, each decoded once: whether it can be read, and its pixels where ``size`` is given.

    A picture that breaks off would otherwise stop a run hours later. Raises InputError where there are no pictures, or
    broken ones that are not to be skipped.
    """
    from .data.files import Shapes, read_image
    from .train.progress import ProgressBar

    files = find_pictures(root)
    shapes = Shapes(1 if size is None else size)
    kept: list[Path] = []
    pixels: list[np.ndarray] = []
    broken: list[tuple[str, InputError]] = []
    with ProgressBar(len(files)) as bar:
        bar.describe("reading pictures")
        for path in files:
            try:
                image = read_image(path, shapes).numpy()
            except InputError as error:
                broken.append((_name(path, root), error))
            else:
                kept.append(path)
                if size is not None:
                    pixels.append(image)
            bar.advance(dict)
    if broken and (not skip_broken or not kept):
        remedy = "repair or remove them" + ("" if skip_broken else ", or leave them out with --skip-broken")
        named = f"{_some([name for name, _ in broken])} ({_reason(broken[0])})"
        raise InputError(f"{root}: {len(broken)} of {len(files)} pictures cannot be read: {named}; {remedy}.")
    return Pictures(root, kept, tuple(name for name, _ in broken), np.stack(pixels) if pixels else None)


def reader(pictures: Pictures) -> Callable[[Any, int], np.ndarray]:
    """``read(rows, size)``: uint8 [n, 3, size, size] of pictures by number."""

    def read(rows: Any, size: int) -> np.ndarray:
        from .data.files import Shapes, read_image

        shapes = Shapes(size)
        return np.stack([read_image(pictures.files[int(row)], shapes).numpy() for row in rows])

    return read


def find_pictures(root: Path) -> list[Path]:
    """All pictures below a folder, sorted; hidden files and folders are passed over. InputError where there is none."""
    from .data.files import ENDINGS

    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in ENDINGS["image"] and path.is_file())
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not found:
        raise InputError(f"{root} holds no pictures ({', '.join(ENDINGS['image'])}).")
    return found


def told_skipped(skipped: tuple[str, ...]) -> str:
    """`2 broken pictures are left out: a.png, b.png`."""
    one = len(skipped) == 1
    return f"{len(skipped)} broken {'picture is' if one else 'pictures are'} left out: {_some(list(skipped))}"


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _reason(broken: tuple[str, InputError]) -> str:
    """What is wrong with the first, without its long path and line breaks."""
    text = " ".join(str(broken[1]).split())
    return text if len(text) <= 160 else f"{text[:157]}…"
