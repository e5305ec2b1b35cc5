"""Folders of pictures as streams: the names of the folders are the classes, the splits and the domains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.files import ENDINGS, Shapes
from pyfast_mmcl.data.manifest import table_stream
from pyfast_mmcl.data.roles import SPLIT_WORDS
from pyfast_mmcl.data.scenario import Scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.table import Table

_LAYOUTS = "class/picture.png, domain/class/picture.png, train/class/picture.png or train/domain/class/picture.png"


def image_folder_stream(
    root: str | Path,
    scenario: str | Scenario | None = None,
    n_tasks: int | None = None,
    *,
    image_size: int = 32,
    keep: int = 2**30,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """The pictures below ``root`` as [3, image_size, image_size] in [0, 1], in one of four layouts.

    class/x.png, domain/class/x.png, and both below folders called train, validation and test. Without such folders a
    fifth of the pictures of each class is tested on. Classes and domains are in alphabetical order, or
    ascending where all of them are whole numbers.

    scenario   None: "dil" where there are domains, else "cil"
    keep, dealing: as in ``manifest_stream``. Hidden files and folders are passed over.

    Raises InputError for a folder without pictures, of mixed depth, or with files that are no readable pictures.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root} is no folder; give the folder that holds one folder of pictures per class.")
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    pictures = [path for path in files if path.suffix.lower() in ENDINGS["image"]]
    if not pictures:
        raise InputError(f"{root} holds no pictures ({', '.join(ENDINGS['image'])}); expected {_LAYOUTS}.")
    split = all(path.parts[0].lower() in SPLIT_WORDS for path in pictures)
    below = {len(path.parts) - split for path in pictures}
    if len(below) > 1 or not below <= {2, 3}:
        odd = min(pictures, key=lambda path: (sum(len(p.parts) == len(path.parts) for p in pictures), path))
        raise InputError(f"{root}: {odd.as_posix()} is not where others are; expected {_LAYOUTS}.")
    columns: dict[str, list[Any]] = {"image": [path.as_posix() for path in pictures]}
    columns["class"] = [path.parts[-2] for path in pictures]
    if split:
        columns["split"] = [path.parts[0] for path in pictures]
    if below == {3}:
        columns["domain"] = [path.parts[-3] for path in pictures]
    table = Table(columns, [path.as_posix() for path in pictures], root)
    named = {"target": "class", "task": "domain" if below == {3} else None, "split": "split" if split else None}
    return table_stream(table, scenario, n_tasks, named, Shapes(image_size), keep=keep, seed=seed, **dealing)
