"""The laws of the house as tests: who imports whom, where training steps are taken, what C++ may include."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import pyfast_mmcl
from tests.layers import PACKAGE, ROOT, calls, imports, method_files, module_name, room, sources

LAYERS = {
    **{"_C": 0, "_errors": 0, "_native": 1, "ops": 2, "losses": 3, "models": 3, "metrics": 3, "data": 3},
    **{"train": 4, "continual": 5, "clustering": 5, "report": 6, "cli": 7},
}
# The doctor reports how the package was built; everyone else goes through ops.
NATIVE_READERS = ("_native", "ops", "cli")
PICKLERS = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")


def rooms_broken(tree: ast.AST, module: str) -> list[str]:
    """Imports that point upwards or sideways."""
    here, broken = room(module), []
    for target, line in imports(tree, module):
        parts = target.split(".")
        if parts[0] in ("tests", "benchmarks"):
            broken.append(f"{module}:{line} imports {target}: nobody imports tests or benchmarks")
        if parts[0] != PACKAGE or len(parts) < 2:
            continue
        lazy = pyfast_mmcl._HOME.get(parts[1])
        there = room(lazy) if lazy else room(target)
        if there == here or here == "__init__" or there.startswith("__"):
            continue
        if LAYERS.get(there, 99) >= LAYERS.get(here, -1) or there not in LAYERS:
            broken.append(f"{module}:{line} {here} imports {there} ({target}): upwards or sideways")
    return broken


def native_broken(tree: ast.AST, module: str) -> list[str]:
    """Compiled code and Triton known outside ops."""
    here, broken = room(module), []
    for target, line in imports(tree, module):
        known_by = {f"{PACKAGE}._C": ("_native",), f"{PACKAGE}._native": NATIVE_READERS, "triton": ("ops",)}
        for name, readers in known_by.items():
            if (target == name or target.startswith(name + ".")) and here not in readers:
                broken.append(f"{module}:{line} {here} imports {target}")
    return broken


def steps_broken(tree: ast.AST, module: str) -> list[str]:
    """Backward passes and optimiser steps outside train/."""
    if room(module) == "train":
        return []
    pattern = re.compile(r"\.backward$|(^|[._])(opt|optim|optimizer|optimizers\[.*\]|sgd|adamw?)\.step$", re.I)
    return [f"{module}:{use.line} calls {use.name}" for use, _ in calls(tree) if pattern.search(use.name)]


def loads_broken(tree: ast.AST, module: str) -> list[str]:
    """Ways of loading that run code from a file."""
    broken = [
        f"{module}:{line} imports {name}" for name, line in imports(tree, module) if name.split(".")[0] in PICKLERS
    ]
    for use, node in calls(tree):
        unpickles = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
        if use.name in ("eval", "exec", "torch.load", "torch.save") or unpickles:
            broken.append(f"{module}:{use.line} calls {ast.unparse(node)}")
    return broken


def methods_broken(tree: ast.AST, module: str) -> list[str]:
    """Method files that import another method file."""
    methods = {module_name(path) for path in method_files()}
    if module not in methods:
        return []
    return [
        f"{module}:{line} imports the method {name}"
        for target, line in imports(tree, module)
        for name in methods - {module}
        if target == name or target.startswith(name + ".")
    ]


LAWS = [rooms_broken, native_broken, steps_broken, loads_broken, methods_broken]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law_holds_in_the_package(law):
    files = sources()
    assert len(files) > 20
    broken = [text for path in files for text in law(ast.parse(path.read_text(encoding="utf-8")), module_name(path))]
    assert not broken, "\n".join(broken)


VIOLATIONS = [
    (rooms_broken, "ops.knn.search", "from ...train import learner"),
    (rooms_broken, "ops.knn.__init__", "from ... import train"),
    (rooms_broken, "ops.knn.search", "from pyfast_mmcl import train"),
    (rooms_broken, "ops.knn.search", "import pyfast_mmcl.losses.info_nce"),
    (rooms_broken, "ops.knn.search", "from importlib import import_module; import_module('pyfast_mmcl.data')"),
    (rooms_broken, "ops.knn.search", "from pyfast_mmcl import Learner"),
    (rooms_broken, "losses.a", "from ..models.clip import CLIP"),
    (rooms_broken, "continual.replay.er", "from pyfast_mmcl.clustering.kmeans import KMeans"),
    (rooms_broken, "report.html", "from pyfast_mmcl import cli_doctor"),
    (rooms_broken, "data.batch", "from tests.check import SIZES"),
    (rooms_broken, "data.batch", "from pyfast_mmcl import unheard_of"),
    (native_broken, "train.memory", "from pyfast_mmcl import _native"),
    (native_broken, "ops.knn.search", "from pyfast_mmcl import _C"),
    (native_broken, "losses.a", "import triton.language as tl"),
    (steps_broken, "continual.replay.er", "loss.backward()"),
    (steps_broken, "clustering.base", "self.optimizer.step()"),
    (steps_broken, "losses.a", "torch.autograd.backward(x)"),
    (loads_broken, "train.checkpoint", "import pickle"),
    (loads_broken, "train.checkpoint", "torch.load('x')"),
    (loads_broken, "data.split", "np.load('x', allow_pickle=True)"),
    (loads_broken, "data.split", "eval('1')"),
]
ALLOWED = [
    (rooms_broken, "ops.knn.search", "from ..._errors import InputError"),
    (rooms_broken, "train.learner", "from pyfast_mmcl import __version__, knn"),
    (rooms_broken, "train.learner", "from . import memory; import torch"),
    (rooms_broken, "cli", "from .report import html"),
    (native_broken, "ops.knn.search", "from ... import _native; import triton"),
    (steps_broken, "train.learner", "loss.backward(); self.optimizer.step()"),
    (steps_broken, "continual.replay.er", "scenario.step(); model.eval()"),
    (loads_broken, "data.split", "np.load('x', allow_pickle=False); model.eval()"),
]


@pytest.mark.parametrize(("law", "module", "source"), VIOLATIONS)
def test_law_sees_a_violation(law: Callable, module: str, source: str):
    assert law(ast.parse(source), f"{PACKAGE}.{module}")


@pytest.mark.parametrize(("law", "module", "source"), ALLOWED)
def test_law_allows(law: Callable, module: str, source: str):
    assert not law(ast.parse(source), f"{PACKAGE}.{module}")


def test_methods_law_sees_a_violation():
    first, second = (module_name(path) for path in method_files()[:2])
    assert methods_broken(ast.parse(f"from {second} import x"), first)
    package, _, stem = second.rpartition(".")
    assert methods_broken(ast.parse(f"from {package} import {stem}"), first)
    assert not methods_broken(ast.parse("from pyfast_mmcl.train.parts import Replay"), first)


def include_broken(path: Path, line: str) -> str:
    """Why this #include breaks the law of csrc, or an empty text."""
    found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
    if not found or path.name == "bindings.cpp":
        return ""
    header, family = found[1], path.parent.name
    if re.match(r"torch/|ATen/|c10/|pybind11/|Python\.h", header):
        return f"{path} includes {header}: torch and Python stop at bindings.cpp"
    folder = header.split("/")[0] if "/" in header else family
    if (ROOT / "csrc" / folder).is_dir() and folder not in ("core", family):
        return f"{path} includes {header}: a family includes itself and core only"
    return ""


def test_cpp_includes():
    files = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh")]
    assert len(files) > 5
    broken = [include_broken(p, line) for p in files for line in p.read_text(encoding="utf-8").splitlines()]
    assert not list(filter(None, broken)), "\n".join(filter(None, broken))


@pytest.mark.parametrize(
    "line", ["#include <torch/extension.h>", '#  include "pybind11/pybind11.h"', "#include <Python.h>"]
)
def test_cpp_law_sees_a_framework_header(line):
    assert include_broken(ROOT / "csrc" / "knn" / "x.cpp", line)
    assert not include_broken(ROOT / "csrc" / "bindings.cpp", line)


def test_cpp_law_sees_another_family():
    assert include_broken(ROOT / "csrc" / "core" / "x.cpp", '#include "knn/knn.h"')
    assert not include_broken(ROOT / "csrc" / "knn" / "x.cpp", '#include "core/array.h"')


def test_build_keeps_the_callers_arithmetic_and_the_baseline_cpu():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("CMakeLists.txt", "setup.py"))
    assert "-O3" in text
    assert not re.search(r"-ffast-math|-Ofast|-march=native|--use_fast_math", text)
