"""Log-mel spectrograms against torch's own transform; waves of every sample type; rates that differ."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data.audio import RATE, as_wave, log_mel, mel_bands


def tone(hertz, rate=RATE, seconds=1.0):
    return np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def test_spectrograms_are_those_of_the_formula():
    wave = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    window = torch.hann_window(512, dtype=torch.float64)
    spectrum = torch.stft(torch.from_numpy(wave).double(), 512, 256, window=window, center=False, return_complex=True)
    bands = torch.from_numpy(mel_bands())
    wanted = (bands @ spectrum.abs().square()).clamp(min=1e-5).log()
    torch.testing.assert_close(log_mel(wave, RATE, 1.0).double(), wanted, rtol=1e-5, atol=1e-5)
    assert log_mel(wave, RATE, 1.0).shape == (40, 61)


def test_bands_are_triangles_that_overlap_by_half():
    bands = mel_bands()
    assert bands.shape == (40, 257) and bands.min() == 0 and 0.4 < bands.max() <= 1
    inside = bands[:, 3:210].sum(0)
    assert np.allclose(inside, 1), "between the first and the last peak the triangles add up to one"


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000])
def test_a_tone_is_heard_in_its_band_whatever_the_rate(rate):
    mel = log_mel(tone(1000, rate), rate, 1.0)
    heard = mel_bands()[int(mel.mean(1).argmax())].argmax() * RATE / 512
    assert abs(heard - 1000) < 80 and mel.shape == (40, 61)


def test_shorter_sound_ends_in_silence_and_longer_sound_is_cut():
    short = log_mel(tone(500, seconds=0.25), RATE, 1.0)
    assert short[:, 20:].eq(short[0, -1]).all() and short[:, :10].max() > 0
    assert float(short[0, -1]) == pytest.approx(np.log(1e-5))
    assert torch.equal(log_mel(tone(500, seconds=3), RATE, 1.0), log_mel(tone(500), RATE, 1.0))
    assert log_mel(np.zeros(0, np.float32), RATE, 0.001).shape == (40, 1)


def test_samples_of_every_type_are_the_same_wave():
    wave = tone(300, seconds=0.01)
    kinds = {np.int16: 2**15, np.int32: 2**31, np.float64: 1}
    for kind, scale in kinds.items():
        np.testing.assert_allclose(as_wave((wave * scale * 0.5).astype(kind)), wave * 0.5, atol=1e-4)
    np.testing.assert_allclose(as_wave((wave * 64 + 128).astype(np.uint8)), wave * 0.5, atol=1e-2)
    np.testing.assert_allclose(as_wave(np.stack([wave, -wave, wave], 1)), wave / 3, atol=1e-6)


def test_samples_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        log_mel(np.array([0.0, np.nan], np.float32), RATE, 1.0)
