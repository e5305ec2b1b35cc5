"""What all sampling ops share: names, refusals of ids and keys, the choice of a backend and its reasons."""

import types

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pyfast_mmcl import _native, ops
from pyfast_mmcl._errors import BackendError, InputError, UnknownNameError
from pyfast_mmcl.ops import sampling
from pyfast_mmcl.ops.sampling import _dispatch
from tests.check import raises_sentence

IDS, W = torch.arange(4), torch.ones(4)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: sampling.weighted_keys(0, IDS.float(), W), ["index", "float32"]),
        (lambda: sampling.weighted_keys(0, IDS, W[:3]), ["weights", "4", "3"]),
        (lambda: sampling.weighted_keys(0, IDS, torch.tensor([1, 1, -1, 1])), ["weights", "entry 2", "-1"]),
        (lambda: sampling.weighted_keys(0, IDS, W.bool()), ["weights", "bool"]),
        (lambda: sampling.weighted_keys(0.5, IDS, W), ["seed", "0.5"]),
        (lambda: sampling.weighted_keys(0, IDS, W.to("meta")), ["weights", "meta", "cpu"]),
        (lambda: sampling.merge_reservoir(IDS, IDS[:3], 2), ["index", "4", "3"]),
        (lambda: sampling.merge_reservoir(IDS.int(), IDS, 2), ["keys", "int32"]),
        (lambda: sampling.merge_reservoir(W * torch.nan, IDS, 2), ["keys", "NaN"]),
        (lambda: sampling.merge_reservoir(IDS, IDS, -1), ["capacity", "-1"]),
        (lambda: sampling.merge_reservoir(IDS, IDS, 2, groups=W), ["groups", "float32"]),
        (lambda: sampling.merge_reservoir(IDS, IDS, 2, groups=IDS[:2]), ["groups", "4", "2"]),
        (lambda: sampling.balanced_allocation(torch.tensor([1, -1]), 2), ["counts", "-1"]),
        (lambda: sampling.balanced_allocation(W, 2), ["counts", "float32"]),
        (lambda: sampling.balanced_allocation(IDS, 2, weights=W[:2]), ["weights", "4", "2"]),
        (lambda: sampling.balanced_allocation(IDS, 2, weights=-W), ["weights", "entry 0"]),
        (lambda: sampling.balanced_allocation(IDS, 2.5), ["capacity", "2.5"]),
        (lambda: sampling.Reservoir(0), ["capacity", "0"]),
        (lambda: sampling.Reservoir(3, seed="a"), ["seed", "a"]),
        (lambda: sampling.merge_reservoir(IDS, IDS.numpy().astype("U3"), 2), ["index"]),
    ],
)
def test_refusals(call, words):
    with raises_sentence(InputError, *words):
        call()


OPS = {
    "herding": lambda b: sampling.herding(torch.ones(4, 2), 2, backend=b),
    "k_center": lambda b: sampling.k_center(torch.ones(4, 2), 2, backend=b),
    "gumbel_top_k": lambda b: sampling.gumbel_top_k(W, 2, seed=0, backend=b),
    "PriorityTree": lambda b: sampling.PriorityTree(4, backend=b),
    "Reservoir": lambda b: sampling.Reservoir(4, backend=b),
    "AliasTable": lambda b: sampling.AliasTable(W, backend=b),
}


@pytest.mark.parametrize("op", OPS)
def test_backends_asked_for_by_name(op, monkeypatch):
    with raises_sentence(UnknownNameError, "backend", "nativ", "native"):
        OPS[op]("nativ")
    with raises_sentence(BackendError, op, "triton", "no such implementation"):
        OPS[op]("triton")
    monkeypatch.setattr(_native, "available", lambda: (False, "it is not built"))
    with raises_sentence(BackendError, op, "native", "it is not built"):
        OPS[op]("native")
    OPS[op]("auto")


@pytest.mark.parametrize("op", OPS)
def test_a_compiled_module_of_before_is_named_as_the_reason(op, monkeypatch):
    if not _native.available()[0]:
        pytest.skip("the compiled kernels are missing")
    monkeypatch.setitem(_dispatch.COMPILED, op, ("of_tomorrow", None))
    with raises_sentence(BackendError, op, "of_tomorrow", "rebuild"):
        OPS[op]("native")
    OPS[op]("auto")


def test_the_doctor_lists_every_op_with_its_backends():
    rows = ops.backends()
    for op in OPS:
        found = [row for row in rows if row["op"] == op and row["device"] == "cpu"]
        assert [row["backend"] for row in found] == ["native", "torch"]
        assert found[1]["available"] and all(row["available"] or row["reason"] for row in found)


def test_a_gpu_tensor_asks_for_the_cuda_kernels(monkeypatch):
    with FakeTensorMode():
        x = torch.empty(1, 1, device="cuda")
    monkeypatch.setattr(_native, "available", lambda: (True, ""))
    monkeypatch.setattr(_native, "info", lambda: {"cuda": True})
    monkeypatch.setattr(_native, "module", lambda: types.SimpleNamespace(herding_cuda=None, gumbel_top_k=None))
    assert _dispatch.native_usable("herding", x) == (True, "")
    assert "without k_center_cuda" in _dispatch.native_usable("k_center", x)[1]
    assert "compiled for the CPU" in _dispatch.native_usable("gumbel_top_k", x)[1]
    monkeypatch.setattr(_native, "info", lambda: {"cuda": False})
    assert "without CUDA" in _dispatch.native_usable("herding", x)[1]


def test_read_only_arrays_are_read():
    ids = np.arange(10)
    ids.flags.writeable = False
    assert sampling.Reservoir(3).offer(ids).rows.shape == (3,)
