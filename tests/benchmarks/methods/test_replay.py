"""Every line once per seed, baselines in the table of every budget, and a memory that keeps what its line says."""

from dataclasses import replace

import pytest
import torch

from benchmarks.methods import replay, results
from benchmarks.methods.replay_settings import SETTINGS, ReplaySome, Setting
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.models.encoders import TextEncoder, VectorEncoder
from pyfast_mmcl.train import Learner
from pyfast_mmcl.train.parts import CrossEntropy

NAME = "small digits"


def encoders():
    return {"image": VectorEncoder(64, 64), "text": TextEncoder(64, 64)}


@pytest.fixture
def small(monkeypatch):
    """One small stream, two seeds; ``seen`` lists the seeds and the missing modalities that were streamed."""
    seen = []

    def stream(*, seed, missing):
        seen.append((seed, missing))
        return digits_stream("cil", 2, missing=missing, seed=seed)

    setting = Setting(stream, encoders, {"image": 64, "text": 8}, 1, 1e-3, (10, 20, 40), batch_size=64)
    monkeypatch.setattr(replay, "SETTINGS", {NAME: setting})
    monkeypatch.setattr(replay, "SEEDS", (0, 1))
    monkeypatch.setattr(replay, "METHODS", {"er": replay.Line("er")})
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return seen


def test_a_baseline_is_run_once_and_stands_in_every_table(small, tmp_path):
    assert replay.main(["budgets", "--results", str(tmp_path)]) == 0
    assert len(small) == 2 * 2 + 3 * 2
    rows = results.read(tmp_path / "replay-budgets").rows
    shown = {f"{NAME}, {n} rows" for n in (10, 20, 40)}
    lines = {(stream, method, seed) for stream in shown for method in ("finetune", "joint", "er") for seed in (0, 1)}
    assert {(r.stream, r.method, r.seed) for r in rows} == lines
    kept = {r.stream: r.value for r in rows if (r.method, r.measure, r.seed) == ("er", "kept_kib", 0)}
    assert kept[f"{NAME}, 10 rows"] < kept[f"{NAME}, 20 rows"] < kept[f"{NAME}, 40 rows"]
    assert replay.main(["budgets", "--results", str(tmp_path)]) == 0
    assert len(small) == 10


def test_only_one_modality_reaches_the_learners_that_have_one(small, tmp_path):
    assert replay.main(["modalities", "--method", "joint, learner of text alone", "--results", str(tmp_path)]) == 0
    assert small == [(0, {"image": 1.0}), (1, {"image": 1.0})]
    lines = replay.experiment("modalities").methods
    assert len(set(lines)) == len(lines) == 2 + 1 + 2 * 3 + 2 * 2


@pytest.mark.parametrize("shown_so", [False, True])
def test_the_memory_keeps_the_modality_of_its_line(shown_so):
    stream = digits_stream("cil", 2)
    part = ReplaySome(30, ("text",), shown_so=shown_so)
    watched = []

    class Watch(CrossEntropy):
        def after_step(self, learner, batch, out):
            watched.append(replace(batch))

    model = replace(SETTINGS["HAR"], encoders=encoders, numbers={"image": 64, "text": 8}).model("classifier", stream, 0)
    Learner(model, [part, Watch()], epochs=1, device="cpu", progress=False).fit(stream)
    assert set(part.memory_.all().inputs) == {"text"} and len(part.memory_) == 30
    last = watched[-1]
    assert not last.present["image"][last.fresh :].any() and last.present["text"].all()
    fresh = last.present["image"][: last.fresh]
    assert torch.equal(fresh, (torch.arange(last.fresh) % 2 == 1) | (not shown_so))
    assert not last.inputs["image"][~last.present["image"]].any()
