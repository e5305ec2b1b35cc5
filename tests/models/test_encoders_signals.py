"""Encoders of sensors and of sound, and the choice of an encoder by kind."""

import math

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream, har_stream, spoken_digits_stream
from pyfast_mmcl.models import MultimodalClassifier, Spec
from pyfast_mmcl.models.encoders import SeriesEncoder, SpectrogramEncoder, encoder_for, encoders_for
from pyfast_mmcl.models.encoders_signals import log_spectrogram
from pyfast_mmcl.train import run_continual
from pyfast_mmcl.train.run import stream_spec
from tests.check import raises_sentence


@pytest.mark.parametrize("length", [1, 15, 16, 17, 64, 97])
@pytest.mark.parametrize("n_fft", [4, 16])
def test_spectrogram_is_the_sum_written_out(n_fft, length):
    x = torch.randn(3, length, dtype=torch.float64)
    hop = n_fft // 2
    got = log_spectrogram(x, n_fft)
    assert got.shape == (3, n_fft // 2 + 1, length // hop + 1)
    for s in range(got.shape[2]):
        for f in range(got.shape[1]):
            total = torch.zeros(3, dtype=torch.complex128)
            for k in range(n_fft):
                at = s * hop + k - n_fft // 2
                if 0 <= at < length:
                    hann = 0.5 - 0.5 * math.cos(2 * math.pi * k / n_fft)
                    angle = torch.tensor(-2 * math.pi * f * k / n_fft, dtype=torch.float64)
                    total += hann * x[:, at] * torch.polar(torch.ones((), dtype=torch.float64), angle)
            torch.testing.assert_close(got[:, f, s], (1 + total.abs()).log(), rtol=1e-9, atol=1e-12)


def test_silence_is_zero_and_half_precision_is_widened():
    assert not log_spectrogram(torch.zeros(2, 100), 16).any()
    assert log_spectrogram(torch.randn(2, 100).half(), 16).dtype == torch.float32
    assert log_spectrogram(torch.zeros(0, 100), 16, 10).shape == (0, 9, 11)


ENCODERS = {
    "series": (SeriesEncoder(3, 12), lambda n, length: torch.randn(n, 3, length)),
    "spectrogram": (SpectrogramEncoder(12), lambda n, length: torch.randn(n, 20, length)),
    "waveform": (SpectrogramEncoder(12, n_fft=16, hop=4), lambda n, length: torch.randn(n, length)),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("length", [1, 16, 33, 127])
def test_any_length_gives_rows_that_do_not_meet(kind, length):
    encoder, make = ENCODERS[kind]
    x = make(9, length)
    whole, order = encoder(x), torch.randperm(9)
    assert whole.shape == (9, 12) and whole.isfinite().all() and encoder(x[:0]).shape == (0, 12)
    torch.testing.assert_close(encoder(x[order]), whole[order])
    torch.testing.assert_close(encoder(x[4:5]), whole[4:5])
    whole.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_the_kind_decides_the_encoder_and_plain_rows_keep_theirs():
    series, ids = torch.randn(1, 3, 40), torch.zeros(1, 5, dtype=torch.int64)
    assert type(encoder_for("x", series)).__name__ == "VectorEncoder"
    assert isinstance(encoder_for("x", series, kind="series"), SeriesEncoder)
    assert isinstance(encoder_for("x", series, kind="spectrogram"), SpectrogramEncoder)
    assert encoder_for("x", torch.randn(1, 500), kind="waveform").n_fft == 256
    spec = Spec({"a": series, "b": ids}, 3, vocabulary=9, width=16)
    chosen = encoders_for(spec, kinds={"a": "series"})
    assert [type(e).__name__ for e in chosen.values()] == ["SeriesEncoder", "TextEncoder"]


def test_what_does_not_fit_is_refused():
    with raises_sentence(UnknownNameError, "kind of encoder", "series"):
        encoder_for("x", torch.randn(1, 3, 40), kind="serie")
    with raises_sentence(InputError, "'x'", "3 axes", "(1, 40)"):
        encoder_for("x", torch.randn(1, 40), kind="series")
    with raises_sentence(UnknownNameError, "modality", "smell"):
        encoders_for(Spec({"a": torch.randn(1, 3)}, 2), kinds={"smell": "vector"})
    with raises_sentence(InputError, "[B, 3, L]"):
        ENCODERS["series"][0](torch.randn(2, 4, 30))
    with raises_sentence(InputError, "waveforms"):
        ENCODERS["waveform"][0](torch.randn(2, 4, 30))
    with raises_sentence(InputError, "spectrograms"):
        ENCODERS["spectrogram"][0](torch.randn(2, 4))
    with raises_sentence(InputError, "floats"):
        log_spectrogram(torch.zeros(2, 40, dtype=torch.int64))


@pytest.mark.parametrize("fusion", ["concat", "confidence"])
def test_sensors_as_series(data_dir, fusion):
    stream = har_stream("cil", 1, folder=data_dir, missing={"watch rotation": 0.3})
    spec = stream_spec(stream, width=32)
    encoders = encoders_for(spec, kinds=dict.fromkeys(spec.inputs, "series"))
    model = MultimodalClassifier(encoders, spec.n_classes, embedding=32, features=32, fusion=fusion)
    history = run_continual("finetune", stream, model=model, epochs=1, lr=3e-3, device="cpu", progress=False)
    assert history.accuracy[0][0] > 0.7


def test_sound_as_a_spectrogram(data_dir):
    digits = spoken_digits_stream("cil", folder=data_dir)
    train, test = digits.rows(1, "train"), digits.rows(1, "test")
    inputs, _, target = digits.gather(torch.cat([train, test]))
    sound = Records({"audio": inputs["audio"]}, target - 2)
    stream = Stream.from_dataset(sound, n_tasks=1, test=torch.arange(len(target)) >= len(train))
    encoders = encoders_for(stream_spec(stream), kinds={"audio": "spectrogram"})
    model = MultimodalClassifier(encoders, stream.n_classes)
    history = run_continual("finetune", stream, model=model, epochs=5, lr=3e-3, device="cpu", progress=False)
    assert history.accuracy[0][0] > 0.7
