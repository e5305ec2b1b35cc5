"""The backends every sampling test runs on."""

import pytest
import torch

from pyfast_mmcl import _native


@pytest.fixture(params=["torch", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    usable, reason = _native.available()
    if request.param == "native" and not usable:
        pytest.skip(f"the compiled kernels are missing: {reason}")
    return request.param


@pytest.fixture(autouse=True)
def one_thread(seeded: None) -> None:
    """Thousands of small calls: a second thread only waits where cores are shared. Tests of threads ask for them."""
    torch.set_num_threads(1)
