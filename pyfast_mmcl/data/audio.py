"""Sound as log-mel spectrograms: what the encoders of audio take."""

from __future__ import annotations

import io
import math
import struct
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyfast_mmcl._errors import InputError

Source = Path | io.BytesIO
RATE = 16_000
_WINDOW, _HOP, _BANDS, _LOWEST = 512, 256, 40, 1e-5


def name_of(source: Source) -> str:
    """What a sentence calls a file, or bytes that have no name."""
    return source.name if isinstance(source, Path) else "the stored file"


def read_wav(path: Source) -> tuple[np.ndarray, int]:
    """Samples float32 [N] in [−1, 1], the mean over channels, and their rate. Raises InputError for other files."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            # A file cut short is only warned about, and what is left of it would be taken for the whole.
            warnings.simplefilter("error", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except (ValueError, EOFError, struct.error, OSError, wavfile.WavFileWarning, UnboundLocalError) as error:
        raise InputError(f"{name_of(path)} is no whole WAV file ({error})") from error
    if samples.size == 0 or rate < 1:
        raise InputError(f"{name_of(path)} holds no samples")
    return as_wave(samples), int(rate)


def as_wave(samples: np.ndarray) -> np.ndarray:
    """Samples [N] or [N, channels] of any type as float32 [N], whole numbers scaled to [−1, 1]."""
    wave = np.asarray(samples)
    wave = wave.mean(1, dtype=np.float64) if wave.ndim == 2 else wave.astype(np.float64)
    kind = np.asarray(samples).dtype
    if kind == np.uint8:
        wave = (wave - 128) / 128
    elif kind.kind == "i":
        wave = wave / -float(np.iinfo(kind).min)
    return wave.astype(np.float32)


def log_mel(wave: np.ndarray, rate: int, seconds: float) -> Tensor:
    """log(mel · |STFT|²) as float32 [40, frames] of the first ``seconds``, silence behind a shorter wave.

    At 16 kHz: Hann windows of 512 samples every 256, 40 triangular bands up to 8 kHz, energies of at least 1e-5.
    Raises InputError for samples that are not finite.
    """
    from scipy.signal import resample_poly

    if not np.isfinite(wave).all():
        raise InputError("the samples are not finite")
    wave = wave[: math.ceil(seconds * rate)]
    if rate != RATE:
        shared = math.gcd(rate, RATE)
        wave = resample_poly(wave, RATE // shared, rate // shared).astype(np.float32)
    x = np.zeros(max(_WINDOW, round(seconds * RATE)), np.float32)
    x[: len(wave)] = wave[: len(x)]
    # In NumPy: torch would wake its threads for every one of these small transforms.
    frames = np.lib.stride_tricks.sliding_window_view(x, _WINDOW)[::_HOP] * _hann()
    energy = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return torch.from_numpy(np.log(np.maximum(energy @ mel_bands().T, _LOWEST)).T.astype(np.float32))


@lru_cache(maxsize=1)
def _hann() -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)


@lru_cache(maxsize=1)
def mel_bands() -> np.ndarray:
    """float64 [40, 257]: triangles whose corners are equally far apart on the mel scale 2595·log10(1 + f/700)."""
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    corner = 700 * (10 ** (np.linspace(0, top, _BANDS + 2) / 2595) - 1)
    frequency = np.linspace(0, RATE / 2, _WINDOW // 2 + 1)
    low, middle, high = corner[:-2, None], corner[1:-1, None], corner[2:, None]
    return np.minimum((frequency - low) / (middle - low), (high - frequency) / (high - middle)).clip(min=0)
