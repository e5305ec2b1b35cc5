"""What every test gets: fixed seeds, two threads, poisoned `empty` memory, and the fixtures for data, ISA and GPU."""

import os

# Measured and compared on the machine's own kernels: a forced BLAS core type would make both slow.
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

pytest.register_assert_rewrite("tests.check")

THREADS = 2
ISAS = ("scalar", "avx2", "avx512", "avx512_bf16")

hypothesis.settings.register_profile(
    "local", deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("local"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA GPU that torch can use")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def accelerator() -> Iterator[Callable[..., Any]]:
    """Makes an Accelerator on the CPU. The first one in a process decides the precision of all, so it is forgotten."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield lambda **settings: Accelerator(cpu=True, **settings)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """The same numbers in every test, whichever tests ran before; thread settings are put back."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  the global state is seeded for third-party code that reads it
    yield
    torch.set_num_threads(THREADS)


def poison_tensor(x: torch.Tensor) -> torch.Tensor:
    """NaN in floating memory, an extreme value in integer memory."""
    with torch.no_grad():
        if x.is_floating_point() or x.is_complex():
            return x.fill_(float("nan"))
        if x.dtype == torch.bool or x.is_quantized:
            return x
        return x.fill_(torch.iinfo(x.dtype).max)


def poison_array(x: np.ndarray) -> np.ndarray:
    if x.dtype.kind in "fc":
        x.fill(np.nan)
    elif x.dtype.kind in "iu":
        x.fill(np.iinfo(x.dtype).max)
    return x


def poisoned(function: Callable, poison: Callable) -> Callable:
    def fill(*args: Any, **kwargs: Any) -> Any:
        return poison(function(*args, **kwargs))

    return fill


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads memory before writing it reads NaN."""
    for name in ("empty", "empty_like", "empty_strided"):
        monkeypatch.setattr(torch, name, poisoned(getattr(torch, name), poison_tensor))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty, poison_tensor))
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(np, name, poisoned(getattr(np, name), poison_array))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets, named by PYFAST_MMCL_DATA."""
    name = os.environ.get("PYFAST_MMCL_DATA")
    if not name:
        pytest.skip("needs real data: PYFAST_MMCL_DATA is not set")
    folder = Path(name)
    assert folder.is_dir(), f"PYFAST_MMCL_DATA names {name}, which is not a folder"
    return folder


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test once per instruction set that this machine has, with PYFAST_ISA set to it."""
    from pyfast_mmcl import _native

    info = _native.info()
    if not info["built"]:
        pytest.skip(f"the compiled kernels are missing: {info['reason']}")
    if request.param not in info["isas"]:
        pytest.skip(f"this CPU has no {request.param}")
    monkeypatch.setenv("PYFAST_ISA", request.param)
    return request.param
