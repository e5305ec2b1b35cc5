"""Bad input gets one sentence: what was expected, what came, what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyfast_mmcl import ops
from pyfast_mmcl._errors import BackendError, InputError, UnknownNameError
from pyfast_mmcl.ops.contrastive import (
    PackedReference,
    info_nce,
    nt_xent,
    relation_distance,
    siglip,
    similarity_kl,
    sup_con,
)
from tests.check import raises_sentence

X = torch.arange(12.0).reshape(4, 3)
IDS = torch.arange(4)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"a": [[1.0]]}, InputError, ["a", "list"]),
        ({"a": X[0]}, InputError, ["a", "[rows, features]", "[3]"]),
        ({"a": X[:, :0], "b": X[:, :0]}, InputError, ["features", "[4, 0]"]),
        ({"b": X.long()}, InputError, ["b", "int64", ".float()"]),
        ({"b": X[:, :2]}, InputError, ["features", "3", "2"]),
        ({"b": X[:3]}, InputError, ["4", "3", "labels=(labels_a, labels_b)"]),
        ({"b": X.double()}, InputError, ["float64", "float32"]),
        ({"b": X.to("meta")}, InputError, ["meta", "cpu", ".to(device)"]),
        ({"a": X.to_sparse()}, InputError, ["a", "dense"]),
        ({"scale": "14"}, InputError, ["scale", "'14'"]),
        ({"scale": True}, InputError, ["scale", "True"]),
        ({"scale": torch.ones(2)}, InputError, ["scale", "[2]"]),
        ({"scale": torch.ones((), dtype=torch.long)}, InputError, ["scale", "int64"]),
        ({"direction": "a"}, UnknownNameError, ["direction", "ab"]),
        ({"reduction": "avg"}, UnknownNameError, ["reduction", "mean"]),
        ({"precision": "tf32"}, UnknownNameError, ["precision", "float32"]),
        ({"precision": "bfloat16", "a": X.double(), "b": X.double()}, InputError, ["precision", "float64"]),
        ({"backend": "nativ"}, UnknownNameError, ["native"]),
        ({"backend": "native", "a": X.double(), "b": X.double()}, BackendError, ["native", "float64"]),
        ({"labels": IDS[:3]}, InputError, ["labels", "[4]", "[3]"]),
        ({"labels": IDS.float()}, InputError, ["labels", "integers", "float32"]),
        ({"labels": np.array(["a", "b", "c", "d"])}, InputError, ["labels", "integers"]),
        ({"labels": IDS, "b": X[:3]}, InputError, ["labels", "pair", "4", "3"]),
        ({"labels": (IDS, IDS), "b": X[:3]}, InputError, ["labels[1]", "[3]", "[4]"]),
        ({"labels": (IDS, IDS[:3]), "b": X[:3], "reduction": "none"}, InputError, ["none", "4", "3", "ab"]),
        ({"weights": torch.ones(3)}, InputError, ["weights", "[4]", "[3]"]),
        ({"weights": torch.ones(4, requires_grad=True)}, InputError, ["weights", ".detach()"]),
        ({"weights": np.array(["a", "b", "c", "d"])}, InputError, ["weights", "numbers"]),
        (
            {"weights": torch.ones(4), "b": X[:3], "labels": (IDS, IDS[:3])},
            InputError,
            ["weights", "pair", "4", "3"],
        ),
        ({"a": X.numpy(), "scale": torch.ones((), requires_grad=True)}, InputError, ["NumPy", "gradient"]),
    ],
)
def test_info_nce(change, error, words):
    arguments = {"a": X, "b": X, "scale": 1.0, **change}
    with raises_sentence(error, *words):
        info_nce(**arguments)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: nt_xent(X[:3], 1.0), ["z", "even", "3"]),
        (lambda: sup_con(X, IDS[:2], 1.0), ["labels", "[4]", "[2]"]),
        (lambda: sup_con(X, IDS, 1.0, reduction="max"), ["reduction"]),
        (lambda: siglip(X, X[:2], 1.0, 0.0), ["4", "2", "labels"]),
        (lambda: siglip(X, X, 1.0, None), ["bias", "None"]),
        (lambda: siglip(X, X, 1.0, 0.0, reduction="none"), ["reduction", "none"]),
        (lambda: similarity_kl(X, X, X[:2], X, student_scale=1, teacher_scale=1), ["student_a", "teacher_a", "4", "2"]),
        (lambda: similarity_kl(X, X, X, X[:, :2], student_scale=1, teacher_scale=1), ["teacher_b", "3", "2"]),
        (
            lambda: similarity_kl(X, X[:2], X, X[:2], student_scale=1, teacher_scale=1, skip_wrong=True),
            ["skip_wrong", "4", "2"],
        ),
        (
            lambda: similarity_kl(X, X, X, X, student_scale=1, teacher_scale=1, skip_wrong=True, exclude_diagonal=True),
            ["skip_wrong", "exclude_diagonal"],
        ),
        (
            lambda: similarity_kl(X, X[:2], X, X[:2], student_scale=1, teacher_scale=1, reduction="none"),
            ["none", "4", "2"],
        ),
        (lambda: similarity_kl(X, X, X, X, student_scale=1, teacher_scale=1, skip_wrong="no"), ["skip_wrong", "no"]),
        (lambda: relation_distance(X, X[:2]), ["student", "teacher", "4", "2"]),
        (lambda: relation_distance(X, X, kind="angel"), ["kind", "angle"]),
        (lambda: relation_distance(X, X, delta=0), ["delta", "0"]),
        (lambda: relation_distance(X, X, reduction="none"), ["reduction", "none"]),
        (lambda: relation_distance(X, X.double()), ["float64", "float32"]),
        (lambda: PackedReference(X[0]), ["rows", "[3]"]),
        (lambda: PackedReference(X, precision="int8"), ["precision", "int8"]),
        (lambda: PackedReference(X.double(), precision="bfloat16"), ["float64", "bfloat16"]),
    ],
)
def test_the_others(call, words):
    with raises_sentence(InputError, *words):
        call()


def test_the_doctor_lists_the_family():
    rows = [r for r in ops.backends() if r["op"] in ("info_nce", "nt_xent", "sup_con", "siglip", "similarity_kl")]
    assert {(r["op"], r["backend"]) for r in rows} >= {("siglip", b) for b in ("native", "torch", "triton")}
    assert all(r["reason"] for r in rows if not r["available"])
    assert all(r["available"] for r in rows if r["backend"] == "torch")
