"""Bad input gets one sentence: what was expected, what came, what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyfast_mmcl import _native, ops
from pyfast_mmcl._errors import BackendError, InputError, UnknownNameError
from pyfast_mmcl.ops.knn import knn
from tests.check import raises_sentence

X = torch.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"queries": [[1.0]]}, InputError, ["queries", "list"]),
        ({"queries": X[0]}, InputError, ["queries", "[rows, features]", "[3]"]),
        ({"database": X.long()}, InputError, ["database", "int64"]),
        ({"database": X.numpy().astype("U8")}, InputError, ["database", "float32"]),
        ({"database": X[:, :2]}, InputError, ["features", "3", "2"]),
        ({"database": X[:, :0], "queries": X[:, :0]}, InputError, ["feature"]),
        ({"database": X.double()}, InputError, ["float64", "float32"]),
        ({"database": X.to("meta")}, InputError, ["meta", "cpu"]),
        ({"k": 0}, InputError, ["k", "≥ 1", "0"]),
        ({"k": -3}, InputError, ["k", "-3"]),
        ({"k": 2.5}, InputError, ["k", "2.5"]),
        ({"metric": "l3"}, UnknownNameError, ["metric", "l3", "l2"]),
        ({"metric": "cosin"}, UnknownNameError, ["cosine"]),
        ({"backend": "nativ"}, UnknownNameError, ["native"]),
        ({"backend": "native", "queries": X.double(), "database": X.double()}, BackendError, ["native", "float64"]),
        ({"groups": torch.zeros(3, dtype=torch.long)}, InputError, ["groups", "[4]", "[3]"]),
        ({"groups": torch.zeros(4)}, InputError, ["groups", "integer"]),
        ({"exclude_self": True, "queries": X[:2]}, InputError, ["exclude_self", "2", "4"]),
        ({"groups": np.array(["a", "b", "a", "b"])}, InputError, ["groups", "integer"]),
        ({"groups": torch.tensor([True, False, True, False])}, InputError, ["groups", "integer", "bool"]),
        ({"database": X.to_sparse()}, InputError, ["database", "dense", "to_dense"]),
        ({"database": X.numpy().astype(np.longdouble)}, InputError, ["database", "astype"]),
        ({"database": np.ma.masked_array(X.numpy())}, InputError, ["database", "MaskedArray"]),
        ({"k": 10**20}, InputError, ["k", "2**31"]),
        ({"k": 2**31 - 1, "queries": X.repeat(500_000, 1)}, InputError, ["GiB", "fewer"]),
        ({"exclude_self": "no"}, InputError, ["exclude_self", "True or False"]),
        ({"check_finite": True, "queries": torch.full((4, 3), torch.nan)}, InputError, ["queries", "row 0", "NaN"]),
        ({"check_finite": True, "database": torch.cat([X, X * torch.inf])}, InputError, ["database", "row 4"]),
    ],
)
def test_bad_input(arguments, error, words):
    call = {"queries": X, "database": X, "k": 2} | arguments
    with raises_sentence(error, *words):
        knn(**call)


def test_unknown_instruction_set(monkeypatch):
    if not _native.available()[0]:
        pytest.skip("the compiled kernels are missing")
    monkeypatch.setenv("PYFAST_ISA", "avx1024")
    with raises_sentence(InputError, "PYFAST_ISA", "avx1024", "avx512"):
        knn(X, X, 1, backend="native")


def test_backend_report_names_every_backend_with_a_reason():
    rows = [r for r in ops.backends() if r["op"] == "knn"]
    assert {r["backend"] for r in rows} == {"native", "triton", "torch"}
    assert all(r["available"] or r["reason"] for r in rows)


def test_missing_native_module_is_explained(monkeypatch):
    monkeypatch.setattr(_native, "_load", lambda: (None, "it was not built"))
    with raises_sentence(BackendError, "it was not built", "torch"):
        knn(X, X, 1, backend="native")
    _d, i = knn(X.numpy(), X.numpy(), 1)
    assert np.array_equal(i[:, 0], np.arange(4))
