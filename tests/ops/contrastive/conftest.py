"""The backends that a test of the family runs on: torch tiles, and the compiled kernels once per instruction set."""

from __future__ import annotations

import pytest

from pyfast_mmcl import _native
from tests.conftest import ISAS


@pytest.fixture(params=["torch", *(f"native-{isa}" for isa in ISAS)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend word; for "native", PYFAST_ISA names the instruction set."""
    word, _, isa = request.param.partition("-")
    if word == "native":
        info = _native.info()
        if not info["built"]:
            pytest.skip(f"the compiled kernels are missing: {info['reason']}")
        if isa not in info["isas"]:
            pytest.skip(f"this CPU has no {isa}")
        monkeypatch.setenv("PYFAST_ISA", isa)
    return word
