"""Encoders of signals: time series of sensors, and sound as a spectrogram. No layer mixes rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError, whole_number

# Signals are pooled to this many steps, or cells each way, before the last layer: one encoder takes any length.
_STEPS = 8
_GRID = 4


class SeriesEncoder(nn.Module):
    """Two convolutions over time (5 samples wide, stride 2), pooled to 8 steps: [B, channels, L] → [B, D]."""

    def __init__(self, channels: int, width: int = 64, *, hidden: int = 32) -> None:
        super().__init__()
        self.channels = whole_number("channels", channels)
        self.layers = nn.Sequential(
            nn.Conv1d(channels, hidden, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv1d(hidden, 2 * hidden, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(_STEPS),
            nn.Flatten(),
            nn.Linear(2 * hidden * _STEPS, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[1] != self.channels or x.shape[2] == 0:
            raise InputError(f"series encoder: expected [B, {self.channels}, L], got {tuple(x.shape)}.")
        return self.layers(x.to(next(self.parameters()).dtype))


class SpectrogramEncoder(nn.Module):
    """Two 3×3 convolutions over frequency and time, pooled to a 4×4 grid: [B, F, S] → [B, D].

    n_fft  None: rows are spectrograms already. A number: rows are waveforms [B, L], of which the encoder takes
           ``log_spectrogram(x, n_fft, hop)`` first
    hop    samples between two frames (default n_fft // 2)
    """

    def __init__(self, width: int = 64, *, n_fft: int | None = None, hop: int | None = None, hidden: int = 16) -> None:
        super().__init__()
        self.n_fft = None if n_fft is None else whole_number("n_fft", n_fft, least=2)
        self.hop = None if hop is None else whole_number("hop", hop)
        self.layers = nn.Sequential(
            nn.Conv2d(1, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * hidden, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(),
            nn.Linear(2 * hidden * _GRID * _GRID, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        expected = 3 if self.n_fft is None else 2
        if x.ndim != expected or x.shape[1:].numel() == 0:
            rows = "spectrograms [B, F, S]" if self.n_fft is None else "waveforms [B, L]"
            raise InputError(f"spectrogram encoder: expected {rows}, got {tuple(x.shape)}.")
        if self.n_fft is not None:
            x = log_spectrogram(x, self.n_fft, self.hop)
        return self.layers(x.to(next(self.parameters()).dtype).unsqueeze(1))


def log_spectrogram(x: Tensor, n_fft: int = 256, hop: int | None = None) -> Tensor:
    """Waveforms [B, L] as log(1 + |STFT|), [B, n_fft // 2 + 1, S] with S = L // hop + 1 frames, in float32 at least.

    ``frames = hann(n_fft) * x padded by n_fft // 2 zeros on either side, every hop samples (default n_fft // 2)``

    A sum log(1 + ·) keeps silence at 0. Raises InputError for what is no row of samples.
    """
    if x.ndim != 2 or not x.is_floating_point():
        raise InputError(f"log_spectrogram: expected waveforms [B, L] of floats, got {x.dtype} {tuple(x.shape)}.")
    x = x if x.dtype == torch.float64 else x.float()
    step = n_fft // 2 if hop is None else hop
    if len(x) == 0:
        return x.new_zeros(0, n_fft // 2 + 1, x.shape[1] // step + 1)
    window = torch.hann_window(n_fft, dtype=x.dtype, device=x.device)
    frames = torch.stft(x, n_fft, step, window=window, center=True, pad_mode="constant", return_complex=True)
    return frames.abs().log1p()
