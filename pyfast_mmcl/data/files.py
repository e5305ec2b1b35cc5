"""One file of a user, one row of a modality: pictures, sound and arrays; whatever is wrong is said in a sentence."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import BackendError, InputError
from pyfast_mmcl.data.audio import Source, log_mel, name_of, read_wav
from pyfast_mmcl.data.images import resized

ENDINGS = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    "audio": (".wav",),
    "array": (".npy",),
}


@dataclass(frozen=True)
class Shapes:
    """What files are turned into: pictures of ``image_size`` pixels a side, ``audio_seconds`` of sound."""

    image_size: int = 32
    audio_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise InputError(f"image_size: expected a whole number of pixels, got {self.image_size!r}.")
        if not isinstance(self.audio_seconds, int | float) or not 0 < self.audio_seconds <= 600:
            raise InputError(f"audio_seconds: expected a number above 0 and up to 600, got {self.audio_seconds!r}.")


def read_image(path: Source, shapes: Shapes) -> Tensor:
    """A picture file as uint8 [3, size, size], turned as its camera says, on white where it is transparent."""
    image = _pillow()
    try:
        with image.open(path) as file:
            return image_rows(file, shapes)
    except image.DecompressionBombError as error:
        raise InputError(f"{name_of(path)} has too many pixels ({error})") from error
    # Pillow lets the errors of its decoders through: SyntaxError and struct.error come from damaged PNG and TIFF.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError, KeyError) as error:
        raise InputError(f"{name_of(path)} is no readable picture ({error})") from error


def image_rows(picture: Any, shapes: Shapes) -> Tensor:
    """A Pillow image as uint8 [3, size, size]. Raises InputError for numbers that are no shades of colour."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("F", "I"):
        raise InputError(f"its pixels are of mode {picture.mode}, not shades from 0 to 255; save it with 8 bits")
    if picture.mode.startswith("I;16"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    pixels = torch.from_numpy(np.asarray(picture.convert("RGB")).copy())
    return resized(pixels.permute(2, 0, 1).unsqueeze(0), shapes.image_size)[0]


def read_audio(path: Source, shapes: Shapes) -> Tensor:
    """A WAV file as a log-mel spectrogram [40, frames]."""
    wave, rate = read_wav(path)
    try:
        return log_mel(wave, rate, shapes.audio_seconds)
    except InputError as error:
        raise InputError(f"{name_of(path)}: {error}") from error


def read_array(path: Source, shapes: Shapes) -> Tensor:
    """A .npy file of finite real numbers."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{name_of(path)} is no readable .npy file of plain numbers ({error})") from error
    return as_numbers(values, name_of(path))


def as_numbers(values: Any, name: str) -> Tensor:
    """Finite real numbers as float32 (int64 stays: token ids). Raises InputError for anything else."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.size == 0:
        raise InputError(f"{name} holds {array.dtype} of shape {array.shape}, not numbers")
    with np.errstate(over="ignore"):
        kept = array.astype(np.int64 if array.dtype == np.int64 else np.float32)
    if array.dtype.kind == "f" and not np.isfinite(kept).all():
        raise InputError(f"{name} holds NaN or infinity, or a number too large for float32")
    return torch.from_numpy(kept)


READERS: dict[str, Callable[[Source, Shapes], Tensor]] = {"image": read_image, "audio": read_audio, "array": read_array}


def kind_of_file(name: str) -> str | None:
    """Which kind a file name ends like, or None."""
    ending = Path(name).suffix.lower()
    return next((kind for kind, endings in ENDINGS.items() if ending in endings), None)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise BackendError('pictures are read by Pillow; install it with "pip install pillow".') from error
    return Image
