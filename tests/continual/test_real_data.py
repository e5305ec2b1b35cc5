"""Smoke test on real sensors: four modalities, unseen subjects, some modalities missing."""

import numpy as np
import pytest
import torch

from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import run_continual

SENSORS = ("phone acceleration", "phone rotation", "watch acceleration", "watch rotation")


@pytest.fixture(scope="module")
def har(data_dir):
    """[N, 3, 64] per sensor, scaled by the training subjects; the last four subjects are the test."""
    with np.load(data_dir / "har.npz", allow_pickle=False) as file:
        x, y, subject = file["X"].astype(np.float32), file["y"].astype(np.int64), file["subject"]
    test = np.isin(subject, np.unique(subject)[-4:])
    center = x[~test].mean((0, 2), keepdims=True)
    x = (x - center) / x[~test].std((0, 2), keepdims=True)
    sensors = {name: np.ascontiguousarray(x[:, 3 * i : 3 * i + 3]) for i, name in enumerate(SENSORS)}
    return Records(sensors, y), test, subject


def test_class_incremental_activities(har):
    records, test, _ = har
    stream = Stream.from_dataset(records, scenario="cil", classes=[[0, 1], [2, 3], [4]], test=test)
    run = {m: run_continual(m, stream, epochs=5, device="cpu", progress=False) for m in ("finetune", "er", "joint")}
    last = {name: history.summary()["last_accuracy"] for name, history in run.items()}
    assert last["finetune"] < 0.5 < last["er"] and last["joint"] > 0.7


def test_subjects_as_domains_with_missing_sensors(har):
    records, test, subject = har
    domains = torch.as_tensor(np.searchsorted(np.unique(subject), subject) % 3)
    missing = dict.fromkeys(SENSORS, 0.3)
    stream = Stream.from_dataset(records, scenario="dil", domains=domains, test=test, missing=missing)
    batch = stream.loader(0, seed=0)[0]
    assert torch.stack(list(batch.present.values())).any(0).all() and not batch.present[SENSORS[1]].all()
    history = run_continual("er", stream, epochs=3, device="cpu", progress=False)
    assert history.summary()["last_accuracy"] > 0.6
