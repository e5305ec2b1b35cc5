"""Saved estimators: every kind of value comes back to the same bits; what is damaged, foreign or missing is named."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.clustering import DEC, KMeans, Training, load_estimator, save_estimator
from pyfast_mmcl.clustering.values import Foreign, decode, encode
from pyfast_mmcl.clustering.views import ViewScaling
from pyfast_mmcl.train.checkpoint import load_checkpoint, save_checkpoint
from tests.check import assert_same_bits, raises_sentence

SMALL = {"widths": (8,), "code": 3, "pretrain_epochs": 2, "epochs": 2, "batch_size": 16, "n_init": 2, "random_state": 0}


def rows(N: int = 50, D: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def saved(tmp_path) -> Path:
    save_estimator(KMeans(3, random_state=0).fit(rows()), tmp_path / "model")
    return tmp_path / "model"


VALUES = {
    "none": None,
    "number": 3,
    "whole float": 2.0,
    "text": "auto",
    "nested": {"a": [1, (2, None)], 3: "x", "is": "dict", "$tensor": 1},
    "array": np.arange(6, dtype=np.int16).reshape(2, 3),
    "other byte order": np.arange(3, dtype=">f8"),
    "no rows": np.zeros((0, 4), dtype=np.float32),
    "scalar": np.float64(0.1),
    "bool scalar": np.bool_(True),
    "tensor": torch.tensor([[1.5, float("nan")]], dtype=torch.bfloat16),
    "dtype": torch.float64,
    "path": Path("a") / "b",
    "names": np.array(["first", "zweite"], dtype=object),
    "our object": ViewScaling(("a",), (torch.ones(2, dtype=torch.float64),), (0.5,)),
    "training": Training(device="cpu", threads=None),
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_come_back_as_they_were(kind, tmp_path):
    value = VALUES[kind]
    save_checkpoint(tmp_path, {"v": encode(value, kind)})
    back = decode(load_checkpoint(tmp_path)["v"])
    if isinstance(value, np.ndarray) and value.dtype != object:
        value = value.astype(value.dtype.newbyteorder("="))
        assert_same_bits(back, value)
    assert type(back) is type(value) and repr(back) == repr(value)


def test_sparse_rows_come_back():
    table = csr_array(np.diag([1.0, 0.0, 3.0]))
    back = decode(encode(table, "graph"))
    np.testing.assert_array_equal(back.toarray(), table.toarray())


@dataclass
class Theirs:
    x: int = 1


@pytest.mark.parametrize("value", [object(), Theirs(), np.array([1j]), np.array([{}], dtype=object), torch.nn.ReLU()])
def test_other_values_are_refused_by_name(value):
    with raises_sentence(InputError, "augment", "without a pickle"):
        encode(value, "augment")


def test_only_objects_of_this_package_are_made():
    for name in ("subprocess:Popen", "pyfast_mmcl.clustering.saving:Path", "pyfast_mmcl.clustering.deep:DeepEstimator"):
        with pytest.raises(CheckpointError, match="unknown type"):
            decode({"is": "object", "type": name, "value": {"args": "true"}})
    with pytest.raises(CheckpointError, match="unknown kind"):
        decode({"is": "code", "value": "1"})


def test_views_data_frames_and_tensors_are_remembered(tmp_path):
    pandas = pytest.importorskip("pandas")
    X = {"a": rows(), "b": rows(D=3) + 2}
    named = pandas.DataFrame(rows(), columns=list("vwxyz"))
    for i, fitted in enumerate((X, named, torch.from_numpy(rows()), 1e9 + rows().astype(np.float64))):
        model = KMeans(3, random_state=0).fit(fitted)
        save_estimator(model, tmp_path / str(i))
        twin = load_estimator(tmp_path / str(i))
        assert_same_bits(twin.predict(fitted), model.predict(fitted))
        assert_same_bits(twin.transform(fitted), model.transform(fitted))
        assert_same_bits(twin.partial_fit(fitted).cluster_centers_, model.partial_fit(fitted).cluster_centers_)
    with raises_sentence(InputError, "views"):
        load_estimator(tmp_path / "0").predict(rows())


def test_what_belongs_to_the_run_is_left_out(tmp_path):
    how = Training(checkpoint_dir=tmp_path / "checkpoints", checkpoint_every=3, threads=2, progress=True)
    model = DEC(3, **{**SMALL, "random_state": np.random.default_rng(0)}, training=how).fit(rows())
    save_estimator(model, tmp_path / "model")
    twin = load_estimator(tmp_path / "model")
    assert twin.training == Training(threads=2, progress=True) and twin.random_state is None
    assert_same_bits(twin.predict_proba(rows()), model.predict_proba(rows()))
    assert twin.history_ == model.history_ and not twin.network_.training


def test_a_device_that_is_not_here_gives_way(tmp_path, monkeypatch):
    model = DEC(3, **SMALL).fit(rows())
    model.training = Training(device="cuda:0", threads=2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    save_estimator(model, tmp_path)
    twin = load_estimator(tmp_path)
    assert twin.training == Training(threads=2) and twin.predict(rows()).shape == (50,)
    assert load_estimator(tmp_path, device="cpu").training.device == "cpu"
    with raises_sentence(InputError, "cuda"):
        load_estimator(tmp_path, device="cuda:0")


def test_a_later_save_replaces_an_earlier_one(saved):
    later = KMeans(2, random_state=0).fit(rows())
    save_estimator(later, saved)
    assert load_estimator(saved).n_clusters == 2
    assert len(list(saved.glob("*.safetensors"))) == 1


def test_a_parameter_that_cannot_be_stored_has_to_be_given_again(tmp_path):
    model = KMeans(3, random_state=0).fit(rows())
    model.backend = print  # any object that is no value
    save_estimator(model, tmp_path)
    with raises_sentence(InputError, "backend", "builtin_function_or_method", "backend=…"):
        load_estimator(tmp_path)
    assert load_estimator(tmp_path, backend="auto").predict(rows()).shape == (50,)
    with raises_sentence(InputError, "tol", "backend"):
        load_estimator(tmp_path, tol=1)


def test_only_fitted_estimators_are_saved(tmp_path):
    class Own(KMeans):
        pass

    with raises_sentence(InputError, "KMeans", "not fitted"):
        save_estimator(KMeans(3), tmp_path)
    for other in (Own(3).fit(rows()), object()):
        with raises_sentence(InputError, "registered", type(other).__name__):
            save_estimator(other, tmp_path)
    model = KMeans(3).fit(rows())
    model.odd_ = object()
    with raises_sentence(InputError, "odd_", "pickle"):
        save_estimator(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_a_training_is_neither_read_nor_overwritten(tmp_path):
    DEC(3, **SMALL, training=Training(checkpoint_dir=tmp_path)).fit(rows())
    before = sorted(path.name for path in tmp_path.iterdir())
    with raises_sentence(CheckpointError, "training", "no estimator"):
        load_estimator(tmp_path)
    with raises_sentence(CheckpointError, "training", "another folder"):
        save_estimator(KMeans(3).fit(rows()), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def edited(folder: Path, **changes) -> None:
    save_checkpoint(folder, {**load_checkpoint(folder), **changes})


def test_missing_damaged_and_foreign_files_are_named(saved, tmp_path):
    with raises_sentence(CheckpointError, "no estimator", "nowhere"):
        load_estimator(tmp_path / "nowhere")
    (tensors,) = saved.glob("*.safetensors")
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-9])
    with raises_sentence(CheckpointError, "damaged"):
        load_estimator(saved)
    tensors.write_bytes(whole)
    index = saved / "checkpoint.json"
    text = index.read_text()
    index.write_text(text[: len(text) // 2])
    with raises_sentence(CheckpointError, "cut short"):
        load_estimator(saved)
    index.write_text(text.replace('"kmeans"', '"k_means"'))
    with raises_sentence(CheckpointError, "checksum"):
        load_estimator(saved)
    index.write_text(json.dumps({"kind": "something"}))
    with raises_sentence(CheckpointError, "not a checkpoint"):
        load_estimator(saved)


def test_other_versions_are_named(saved):
    state = load_checkpoint(saved)
    edited(saved, format=2)
    with raises_sentence(CheckpointError, "format 2", "format 1"):
        load_estimator(saved)
    edited(saved, format=1, method="k_means")
    with raises_sentence(CheckpointError, "k_means", "kmeans"):
        load_estimator(saved)
    edited(saved, method="kmeans", parameters={**state["parameters"], "gone": 1})
    with raises_sentence(CheckpointError, "kmeans", "gone"):
        load_estimator(saved)
    edited(saved, parameters={**state["parameters"], "tol": {"no": "kind"}})
    with raises_sentence(CheckpointError, "does not fit"):
        load_estimator(saved)


def test_a_network_of_another_make_is_named(tmp_path):
    save_estimator(DEC(3, **SMALL).fit(rows()), tmp_path)
    state = load_checkpoint(tmp_path)
    edited(tmp_path, parameters={**state["parameters"], "code": 4})
    with raises_sentence(CheckpointError, "dec", "does not fit"):
        load_estimator(tmp_path)


def test_a_foreign_value_says_what_it_was():
    assert decode(encode(Foreign("ResNet"), "backbone")) == Foreign("ResNet")


@pytest.mark.parametrize(
    "value",
    [
        {"is": "object", "type": "pyfast_mmcl.nowhere:Thing", "value": {}},
        {"is": "words", "shape": [7], "object": False, "value": ["a"]},
    ],
    ids=["module", "shape"],
)
def test_values_of_a_foreign_hand_are_refused(saved, value):
    state = load_checkpoint(saved)
    state["attributes"]["thing_"] = value
    save_checkpoint(saved, state)
    with pytest.raises(CheckpointError, match="does not fit this version"):
        load_estimator(saved)
