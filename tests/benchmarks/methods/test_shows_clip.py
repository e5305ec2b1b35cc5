"""Shows that start from CLIP: which weights, which model, and R@5 of pairs."""

from dataclasses import replace

import pytest
import torch

from benchmarks.methods import shows_clip
from benchmarks.methods.shows import SHOWS
from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import Output

CLIP = next(show for show in SHOWS.values() if show.clip)
OTHER = next(show for show in SHOWS.values() if not show.clip)


def test_results_of_two_models_have_two_settings(tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"one")
    config = shows_clip.started(CLIP, "tiny", tmp_path).config
    assert config == shows_clip.started(CLIP, "tiny", file).config and config["clip"] == "tiny"
    file.write_bytes(b"two")
    assert shows_clip.started(CLIP, "tiny", file).config["weights"] != config["weights"]
    assert shows_clip.fingerprint(tmp_path / "nowhere") == ""
    assert shows_clip.started(OTHER, "tiny", tmp_path) is OTHER
    with pytest.raises(InputError):
        shows_clip.started(CLIP, "tiny", tmp_path).model(None)


def test_recall_at_5_counts_both_directions_and_every_picture_of_a_name():
    """Six names on a line and seven pictures, the last of name 0 again but placed with name 5."""
    angle = torch.linspace(0, 1.5, 6)
    text = torch.stack([angle.cos(), angle.sin()], 1)
    image = torch.cat([text, text[5:]])
    target = torch.tensor([0, 1, 2, 3, 4, 5, 0])
    sides = {"image": image, "text": text[target]}
    there = {m: torch.ones(7, dtype=torch.bool) for m in sides}
    batch = Batch(sides, target, torch.zeros(7, dtype=torch.int64), there, torch.arange(7))
    out = Output(torch.zeros(7, 0), modalities=sides)
    # Among seven texts (name 0 twice) the picture placed with name 5 finds name 0 only as sixth and seventh.
    assert shows_clip.recall_at_5([(batch, out)]) == pytest.approx((6 / 7 + 1) / 2)
    halves = [
        (batch.select(rows), replace(out, scores=out.scores[rows], modalities={m: x[rows] for m, x in sides.items()}))
        for rows in (slice(0, 4), slice(4, 7))
    ]
    assert shows_clip.recall_at_5(halves) == pytest.approx((6 / 7 + 1) / 2)
