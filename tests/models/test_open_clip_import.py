"""open_clip is imported late, beside a torchvision that does not fit, and its absence is one sentence."""

import importlib
import subprocess
import sys

import pytest
import torch

from pyfast_mmcl._errors import BackendError
from pyfast_mmcl.models import open_clip_import
from tests.check import raises_sentence

MISFIT = "operator torchvision::nms does not exist"


def test_open_clip_is_imported_late_and_ops_are_declared_only_where_they_are_missing():
    """In a fresh process: importing the models is not enough; whether plain torchvision works decides."""
    source = f"""
import importlib, sys
import pyfast_mmcl.models.tiny_clip
from pyfast_mmcl.models import open_clip_import
assert "open_clip" not in sys.modules and "torchvision" not in sys.modules
try:
    importlib.import_module("torchvision")
    fits = True
except RuntimeError as error:
    assert {MISFIT!r} in str(error), error
    fits = False
module = open_clip_import.load_open_clip()
assert open_clip_import.load_open_clip() is module and hasattr(module.model, "CLIP")
assert fits != bool(open_clip_import._kept)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def failing_import(monkeypatch):
    """`import open_clip` raises what the test puts in the list, one error per try; then it returns a name."""
    errors: list[BaseException] = []

    def import_module(name: str) -> str:
        if errors:
            raise errors.pop(0)
        return f"the module {name}"

    monkeypatch.setattr(importlib, "import_module", import_module)
    return errors


def test_a_second_try_follows_the_declaration(failing_import, monkeypatch):
    declared = []
    monkeypatch.setattr(open_clip_import, "_declare_ops", lambda: declared.append(True))
    failing_import.append(RuntimeError(MISFIT))
    assert open_clip_import.load_open_clip() == "the module open_clip" and declared == [True]


def test_other_errors_are_not_hidden(failing_import, monkeypatch):
    monkeypatch.setattr(open_clip_import, "_declare_ops", lambda: pytest.fail("nothing was to be declared"))
    failing_import.append(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        open_clip_import.load_open_clip()


@pytest.mark.parametrize("package", ["open_clip", "torchvision", "ftfy"])
def test_a_missing_package_is_one_sentence(failing_import, package):
    failing_import.append(ModuleNotFoundError(f"No module named {package!r}", name=package))
    with raises_sentence(BackendError, repr(package), "pip install open_clip_torch"):
        open_clip_import.load_open_clip()


def test_the_declared_ops_compute_nothing(monkeypatch):
    """Declared names without an implementation: a call is an error and not a silent empty answer."""
    monkeypatch.setattr(open_clip_import, "_kept", [])
    schemas = tuple(schema.replace("nms(", "nms_of_a_test(") for schema in open_clip_import._SCHEMAS)
    monkeypatch.setattr(open_clip_import, "_SCHEMAS", schemas)
    open_clip_import._declare_ops()
    with pytest.raises(NotImplementedError):
        torch.ops.torchvision.nms_of_a_test(torch.zeros(1, 4), torch.zeros(1), 0.5)


def test_the_schemas_are_those_of_torchvision():
    open_clip_import.load_open_clip()
    for schema in open_clip_import._SCHEMAS:
        name = schema.split("(")[0]
        if hasattr(torch.ops.torchvision, name):
            found = str(getattr(torch.ops.torchvision, name).default._schema)
            assert found == f"torchvision::{schema}"
