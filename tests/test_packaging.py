"""What a wheel ships, what works with nothing compiled, and what the build says when something is missing."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

import pyfast_mmcl
from tests.layers import PACKAGE, ROOT, method_files

RUNTIME = "torch numpy scipy scikit-learn safetensors accelerate open_clip_torch typer rich matplotlib".split()
LEFT_BEHIND = shutil.ignore_patterns(".*", "build", "dist", "runs", "*.egg-info", "*.so", "__pycache__")


def run(*command: object, cwd: Path, timeout: int = 300, **settings: str) -> subprocess.CompletedProcess:
    """A command in an environment without this project's settings; its two outputs come as one text."""
    clean = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYFAST_", "PYTHONPATH", "CMAKE_", "CXX", "CUDA"))
    }
    tools = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), clean.get("PATH", "")])}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, **tools, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout without anything built."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "source", ignore=LEFT_BEHIND)


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> zipfile.ZipFile:
    """The pure-Python wheel of the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", out, source)
    result = run(*command, cwd=out, PYFAST_NATIVE="OFF")
    assert result.returncode == 0, result.stdout
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder that holds the unpacked wheel and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    wheel.extractall(folder)
    return folder


def python(code: str, site: Path) -> str:
    """Runs code with the package of ``site`` alone: an editable install would lend it the checkout's modules."""
    guard = f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in str(finder)]
import {PACKAGE}
assert {PACKAGE}.__file__.startswith({str(site)!r}), {PACKAGE}.__file__
"""
    result = run(sys.executable, "-c", guard + code, cwd=site, PYTHONPATH=str(site))
    assert result.returncode == 0, result.stdout
    return result.stdout.strip()


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    return email.message_from_string(wheel.read(name).decode())


def test_every_folder_with_python_files_is_a_package():
    missing = {p.parent for p in (ROOT / PACKAGE).rglob("*.py") if not (p.parent / "__init__.py").exists()}
    assert not missing, f"folders without __init__.py would not be shipped: {sorted(map(str, missing))}"


def test_a_wheel_ships_the_package_and_nothing_else(wheel, source):
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {p.relative_to(source).as_posix() for p in (source / PACKAGE).rglob("*.py")} | {f"{PACKAGE}/py.typed"}
    assert shipped == expected
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


def test_a_deleted_module_is_not_shipped_again(source, tmp_path):
    copy = shutil.copytree(source, tmp_path / "source")
    stale = copy / "build" / "lib" / PACKAGE / "deleted.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_text("")
    result = run(
        sys.executable, "setup.py", "-q", "build_py", "--build-lib", "build/lib", cwd=copy, PYFAST_NATIVE="OFF"
    )
    assert result.returncode == 0, result.stdout
    assert (stale.parent / "__init__.py").exists() and not stale.exists()


def test_metadata(wheel):
    data = metadata(wheel)
    assert (data["Name"], data["Version"]) == (PACKAGE, pyfast_mmcl.__version__)
    assert data["License-Expression"] == "Apache-2.0"
    requirements = [Requirement(text) for text in data.get_all("Requires-Dist")]
    assert sorted(r.name for r in requirements if "extra" not in str(r.marker)) == sorted(RUNTIME)
    assert set(data.get_all("Provides-Extra")) >= {"bench", "test", "dev", "gpu"}
    (scripts,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    assert f"pyfast-mmcl = {PACKAGE}.cli:main" in wheel.read(scripts).decode()


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_has_one_tested_version(wheel, version):
    environment = {**default_environment(), "python_version": version, "sys_platform": "linux"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned = {}
    for pin in pins:
        if pin.marker is None or pin.marker.evaluate(environment):
            assert pin.name not in pinned, f"{pin.name} is pinned twice for Python {version}"
            pinned[pin.name] = next(iter(pin.specifier)).version
    for requirement in map(Requirement, metadata(wheel).get_all("Requires-Dist")):
        assert requirement.name in pinned, f"constraints.txt has no version of {requirement.name} for Python {version}"
        assert requirement.specifier.contains(pinned[requirement.name]), f"{requirement} rejects the tested version"


def test_a_source_distribution_can_build_the_kernels(source, tmp_path):
    result = run(sys.executable, "setup.py", "-q", "sdist", "-d", tmp_path, cwd=source)
    assert result.returncode == 0, result.stdout
    (path,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    kernels = {p.relative_to(source).as_posix() for p in (source / "csrc").rglob("*") if p.is_file()}
    assert {"CMakeLists.txt", "setup.py", "pyproject.toml", "LICENSE", *kernels} <= names


COUNT = "from pyfast_mmcl.train.registry import estimators, recipes; print(*sorted([*recipes(), *estimators()]))"


def test_registered_methods_are_the_method_files(installed):
    stems = sorted(path.stem for path in method_files())
    assert len(stems) == len(set(stems)) > 2
    assert python(COUNT, ROOT).split() == stems
    assert python(COUNT, installed).split() == stems


def test_import_is_light(installed):
    assert python("import sys; print(*{'torch', 'numpy', 'sklearn', 'matplotlib'} & set(sys.modules))", installed) == ""


def test_every_public_name_resolves():
    for name in pyfast_mmcl.__all__:
        assert getattr(pyfast_mmcl, name) is not None
        assert name in dir(pyfast_mmcl)
    with pytest.raises(AttributeError, match="unheard_of"):
        pyfast_mmcl.unheard_of  # noqa: B018


PURE = """
import torch, pyfast_mmcl
from pyfast_mmcl import _native
from pyfast_mmcl._errors import BackendError
assert not _native.info()["built"] and "not built" in _native.info()["reason"], _native.info()
x = torch.tensor([[0.0], [1.0], [3.0]])
distances, indices = pyfast_mmcl.knn(x, x, 2)
assert indices.tolist() == [[0, 1], [1, 0], [2, 1]] and distances.tolist() == [[0, 1], [0, 1], [0, 4]]
try:
    pyfast_mmcl.knn(x, x, 2, backend="native")
except BackendError as error:
    print(error)
"""


def test_the_pure_python_package_searches_on_its_torch_reference(installed):
    sentence = python(PURE, installed)
    assert "native" in sentence and "\n" not in sentence


def build_ext(source: Path, **settings: str) -> str:
    """The message of a build that has to fail."""
    result = run(sys.executable, "setup.py", "-q", "build_ext", cwd=source, **settings)
    assert result.returncode != 0, result.stdout
    assert "Traceback" not in result.stdout, result.stdout
    return " ".join(result.stdout.split())


def test_no_compiler_is_one_sentence(source, tmp_path):
    for settings in ({"CXX": "/nowhere/c++"}, {"PATH": str(tmp_path)}):
        text = build_ext(source, **settings)
        assert "no C++ compiler was found" in text and "PYFAST_NATIVE=OFF" in text


@pytest.mark.parametrize("name", ["PYFAST_CUDA", "PYFAST_NATIVE"])
def test_an_unknown_setting_is_one_sentence(source, name):
    assert f"{name} must be one of" in build_ext(source, **{name: "perhaps"})


@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_cuda_on_without_nvcc_is_one_sentence(source):
    text = build_ext(source, PYFAST_CUDA="ON", CUDACXX="/nowhere/nvcc")
    assert "PYFAST_CUDA=ON but no working CUDA compiler was found." in text and "PYFAST_CUDA=OFF" in text


NATIVE = """
import numpy as np
from pyfast_mmcl import _native, knn
assert _native.info()["built"], _native.info()
assert _native.info()["version"] == pyfast_mmcl.__version__
x = np.arange(12, dtype=np.float32).reshape(6, 2)
print(knn(x, x, 2, backend="native")[1].tolist())
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="needs a C++ compiler")
def test_an_isolated_build_needs_no_torch_and_less_than_two_minutes(source, tmp_path):
    command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, source)
    start = time.perf_counter()
    result = run(*command, cwd=tmp_path, timeout=600, PYFAST_CUDA="OFF")
    seconds = time.perf_counter() - start
    if "No matching distribution found" in result.stdout or "Could not find a version" in result.stdout:
        pytest.skip("needs a package index, for the build tools of the isolated environment")
    assert result.returncode == 0, result.stdout
    assert seconds < 120
    (path,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        binaries = [name for name in archive.namelist() if name.endswith(".so")]
        assert [name.partition(".")[0] for name in binaries] == [f"{PACKAGE}/_C"]
        archive.extractall(tmp_path / "site")
    assert python(NATIVE, tmp_path / "site") == "[[0, 1], [1, 0], [2, 1], [3, 2], [4, 3], [5, 4]]"


def test_code_for_one_instruction_set_is_shared_with_nobody():
    """A weak function, such as a template of the standard library, could be the copy that a lesser CPU has to run."""
    folders = (ROOT / "build").glob("cmake-*/CMakeFiles/kernels.dir/csrc/*/")
    objects = [path for folder in folders for path in folder.glob("*_avx*.o")]
    if not objects or not shutil.which("nm"):
        pytest.skip("needs the object files of `make build` on x86-64, and nm")
    for path in objects:
        symbols = run("nm", "-C", "--defined-only", path, cwd=ROOT).stdout.splitlines()
        weak = [line for line in symbols if line.split()[1] in "Ww"]
        assert symbols and not weak, f"{path.name}: {weak}"
