"""What `pyfast-mmcl cluster` clusters: arrays, several views, or a folder of pictures, and how they can be shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._errors import InputError
from .cli_arrays import IMAGES, VECTORS, open_rows
from .cli_pictures import open_pictures, reader, told_skipped
from .metrics.clustering import label_codes

# Truth of a folder of pictures: the names of the folders that they lie in.
FOLDERS = "folders"
_TILE = 64  # pixels a side of pictures as the report shows them
_COLOURS = (1, 3)


@dataclass(frozen=True)
class Opened:
    """Rows as an estimator takes them.

    X      [N, D], images [N, C, H, W], or {name: [N, D]} of views
    shape  of a row, for people: "64", "3 × 32 × 32"
    how    one sentence on how they were opened
    files  the picture of every row; skipped: pictures that are none, left out
    tiles  row numbers → images [n, C, H, W] to show
    """

    X: Any
    shape: str
    how: str
    files: tuple[str, ...] = ()
    tiles: Callable[[np.ndarray], np.ndarray] | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.X.values())) if isinstance(self.X, dict) else self.X)


def open_data(data: Path, options: Mapping[str, Any], *, images: bool, kept: Path | None = None) -> Opened:
    """The rows that the options describe.

    images: whether the method takes images; otherwise they are encoded, or flattened to rows.
    kept: .npy of embeddings; it is read where it exists and written where pictures are encoded.

    Raises InputError or OSError for what cannot be read.
    """
    _check_options(data, options, images=images)
    if data.is_dir():
        return _open_folder(data, options, images=images, kept=kept)
    keys = options["key"]
    axes = IMAGES if (images or _encoder_wanted(options)) and not options["image_shape"] else VECTORS
    how: dict[str, Any] = {"columns": options["columns"], "axes": axes}
    if len(keys) > 1:
        views = {key: _flat(open_rows(data, key=key, **how)[0]) for key in keys}
        widths = " + ".join(str(view.shape[1]) for view in views.values())
        return Opened(views, widths, f"{len(views)} views")
    rows, words = open_rows(data, key=keys[0] if keys else None, **how)
    pictures = _as_images(rows, options["image_shape"], data)
    if _encoder_wanted(options):
        return _encoded(pictures, options, kept, words) if pictures is not None else _no_images(data, rows)
    if images:
        return _images(pictures, words) if pictures is not None else _no_images(data, rows)
    flat = _flat(rows)
    return Opened(flat, str(flat.shape[1]), words, tiles=None if pictures is None else pictures.__getitem__)


def read_truth(source: str | None, opened: Opened, n_rows: int) -> np.ndarray | None:
    """Classes [N]: of a .npy file, of a member `file.npz:name`, or the folders that the pictures lie in."""
    if source is None:
        return None
    if source == FOLDERS:
        if not opened.files:
            raise InputError(f"--truth {FOLDERS}: names of folders are the classes of pictures; give a folder of them.")
        return np.array([Path(file).parent.name for file in opened.files])
    name, _, member = source.partition(":")
    path = Path(name) if member and name.endswith(".npz") else Path(source)
    try:
        classes = np.load(path, allow_pickle=False)
        if member and path.suffix == ".npz":
            classes = classes[member]
    except KeyError as error:
        raise InputError(f"--truth: {path} has no member {member!r}.") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a complete .npy array of classes ({error}).") from error
    if not isinstance(classes, np.ndarray) or classes.shape != (n_rows,):
        found = list(classes.shape) if isinstance(classes, np.ndarray) else "an archive (name a member: file.npz:y)"
        raise InputError(f"{path}: expected one class per row in a .npy file, shape [{n_rows}], got {found}.")
    label_codes(classes, f"--truth {source}")  # refused now, not when the fit is done
    return classes


def parse_shape(text: str | None) -> list[int] | None:
    """`"8x8"` or `"3x32x32"` as [C, H, W]."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts) or len(parts) not in (2, 3):
        raise InputError(f"--image-shape expects HxW or CxHxW, for example 28x28 or 3x32x32, got {text!r}.")
    return [1, *map(int, parts)] if len(parts) == 2 else [int(part) for part in parts]


def _encoder_wanted(options: Mapping[str, Any]) -> bool:
    return bool(options["encoder"] or options["weights"])


def _check_options(data: Path, options: Mapping[str, Any], *, images: bool) -> None:
    if options["pretrained"] and (options["weights"] or not options["encoder"]):
        raise InputError("--pretrained is a tag of an --encoder, without --weights; give the name beside it.")
    if images and _encoder_wanted(options):
        raise InputError("--encoder gives embeddings, and this method takes images; leave one of them out.")
    if data.is_dir() and (options["key"] or options["columns"] or options["image_shape"]):
        raise InputError(f"{data} is a folder of pictures; --key, --columns and --image-shape are for files of arrays.")
    if options["skip_broken"] and not data.is_dir():
        raise InputError(f"--skip-broken is about a folder of pictures, and {data} is none; leave it out.")
    if len(options["key"]) > 1 and (images or _encoder_wanted(options)):
        raise InputError("several --key are views of vectors; methods and encoders of images take one.")


def _open_folder(root: Path, options: Mapping[str, Any], *, images: bool, kept: Path | None) -> Opened:
    encoded, size = _encoder_wanted(options), options["image_size"]
    pictures = open_pictures(root, size=None if encoded else size, skip_broken=options["skip_broken"])
    read, skipped = reader(pictures), pictures.skipped
    left_out = f"; {told_skipped(skipped)}" if skipped else ""
    about: dict[str, Any] = {"files": pictures.names, "tiles": lambda rows: read(rows, _TILE), "skipped": skipped}
    if encoded:
        N = len(pictures.files)
        found, how = _embeddings(lambda rows, side: torch.from_numpy(read(rows, side)), N, options, kept)
        return Opened(found, str(found.shape[1]), f"pictures, {how}{left_out}", **about)
    assert pictures.pixels is not None
    pixels, how = pictures.pixels, f"pictures as {size} × {size} pixels"
    if images:
        return Opened(pixels, _words(pixels.shape[1:]), f"{how}{left_out}", **about)
    flat = pixels.reshape(len(pixels), -1)
    return Opened(flat, str(flat.shape[1]), f"{how}; --encoder clusters embeddings instead{left_out}", **about)


def _as_images(rows: np.ndarray, shape: Sequence[int] | None, data: Path) -> np.ndarray | None:
    """[N, C, H, W] of what is or says to be images; None for plain rows."""
    if rows.ndim == 2:
        if shape is None:
            return None
        if int(np.prod(shape)) != rows.shape[1]:
            raise InputError(
                f"{data}: rows of {rows.shape[1]} numbers are no images of {_words(shape)}, which have "
                f"{int(np.prod(shape))}; give the rows or the --image-shape that belong together."
            )
        return rows.reshape(len(rows), *shape)
    if rows.ndim == 3:
        return rows[:, None]
    last = rows.shape[3] in _COLOURS and rows.shape[1] not in _COLOURS
    return rows.transpose(0, 3, 1, 2) if last else rows


def _images(pictures: np.ndarray, words: str) -> Opened:
    return Opened(pictures, _words(pictures.shape[1:]), words, tiles=pictures.__getitem__)


def _no_images(data: Path, rows: np.ndarray) -> Opened:
    raise InputError(
        f"{data}: this needs images [N, C, H, W], got rows {list(rows.shape)}; say with --image-shape what they are."
    )


def _encoded(pictures: np.ndarray, options: Mapping[str, Any], kept: Path | None, words: str) -> Opened:
    def read(rows: Sequence[int], size: int) -> torch.Tensor:
        some = np.ascontiguousarray(pictures[rows.start : rows.stop] if isinstance(rows, range) else pictures[rows])
        if some.dtype.kind == "f" and some.size and not 0 <= some.min() <= some.max() <= 1:
            raise InputError("--encoder takes images of bytes, or of floats in [0, 1]; rescale them.")
        return torch.from_numpy(some if some.dtype == np.uint8 else some.astype(np.float32))

    found, how = _embeddings(read, len(pictures), options, kept)
    return Opened(found, str(found.shape[1]), f"{words}, {how}", tiles=pictures.__getitem__)


def _embeddings(
    read: Callable[[Sequence[int], int], torch.Tensor], N: int, options: Mapping[str, Any], kept: Path | None
) -> tuple[np.ndarray, str]:
    """Embeddings [N, D] of images that ``read(rows, size)`` gives, and how they came about."""
    from .models.clip import ClipModel
    from .models.clip_hub import fetch_clip
    from .models.clip_load import load_clip
    from .report.runs import write_array
    from .train.encode import encode_images

    name, weights = options["encoder"], options["weights"]
    label = " ".join(str(part) for part in (name, options["pretrained"]) if part) or str(weights)
    if kept is not None and kept.exists():
        found = open_rows(kept)[0]
        if len(found) != N:
            raise InputError(
                f"{kept} holds embeddings of {len(found)} pictures, now there are {N}; choose another --out."
            )
        return found, f"embeddings of {label} from {kept.name}"
    if options["pretrained"]:
        weights = fetch_clip(name, options["pretrained"])
    elif weights is None and name != "tiny":
        raise InputError(f"--encoder {name} without weights knows nothing; add --pretrained TAG or --weights.")
    model = ClipModel(load_clip(name, weights))
    side = model.prepare.size[0]
    found = encode_images(
        model,
        lambda rows: read(rows, side),
        N,
        device=options["device"],
        threads=options["threads"] or None,
        progress=True,
    ).numpy()
    if kept is not None:
        write_array(kept, found)
    return found, f"encoded by {label}"


def _flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), -1)


def _words(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))
