"""Builds `pyfast_mmcl._C`: setuptools → CMake → ninja → pybind11. All metadata is in pyproject.toml.

Environment: PYFAST_NATIVE=OFF installs the pure-Python package; PYFAST_CUDA=AUTO|ON|OFF chooses the CUDA
kernels; CMAKE_ARGS is appended to the configure step. torch is not imported: the module never links to it.
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def fail(sentence: str) -> NoReturn:
    """Ends the build with one sentence; an exception of setuptools would bury it under a traceback."""
    raise SystemExit(f"error: {sentence}")


def setting(name: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(name, allowed[0]).upper()
    if value not in allowed:
        fail(f"{name} must be one of {', '.join(allowed)}, got {value!r}. Unset it for {allowed[0]}.")
    return value


def require_compiler() -> None:
    wanted = os.environ.get("CXX")
    candidates = [shlex.split(wanted)[0]] if wanted else ["c++", "g++", "clang++"]
    if not any(map(shutil.which, candidates)):
        fail(
            f"no C++ compiler was found (looked for {', '.join(candidates)}). Install g++ or clang++, or set CXX; "
            "PYFAST_NATIVE=OFF installs the package without its compiled kernels."
        )


def package_version() -> str:
    text = (ROOT / "pyfast_mmcl" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.M).group(1)


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        cuda = setting("PYFAST_CUDA", ("AUTO", "ON", "OFF"))
        require_compiler()
        module = ROOT / self.get_ext_fullpath(ext.name)
        # one folder for every kind of build, unlike setuptools' own: a second build is incremental
        folder = ROOT / "build" / f"cmake-{self.plat_name}-{sys.implementation.cache_tag}-cuda-{cuda.lower()}"
        definitions = {
            # pip's isolated ninja is gone by the next build, so a cached path to it must be overwritten
            "CMAKE_MAKE_PROGRAM": shutil.which("ninja"),
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": module.parent,
            "Python_EXECUTABLE": sys.executable,
            "PYFAST_CUDA": cuda,
            "PYFAST_VERSION": package_version(),
        }
        flags = [f"-D{name}={value}" for name, value in definitions.items()]
        flags += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        self.cmake("configure", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *flags)
        jobs = str(self.parallel or os.cpu_count())
        self.cmake("build", "--build", str(folder), "--target", "_C", "--parallel", jobs)

    def cmake(self, step: str, *arguments: str) -> None:
        program = shutil.which("cmake")
        if program is None:
            fail("cmake was not found. Install it with `pip install cmake ninja`.")
        if subprocess.run([program, *arguments]).returncode:
            fail(
                f"the CMake {step} step of pyfast_mmcl._C failed; the reason stands above. "
                "PYFAST_NATIVE=OFF installs the package without its compiled kernels."
            )


class FreshBuildPy(build_py):
    def run(self) -> None:
        # setuptools packs whatever an earlier build left here: a deleted module would be shipped for ever
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


def extensions() -> list[Extension]:
    if setting("PYFAST_NATIVE", ("ON", "OFF")) == "OFF":
        return []
    if platform.system() == "Windows":
        fail("the compiled kernels need Linux or macOS; set PYFAST_NATIVE=OFF to install without them.")
    return [Extension("pyfast_mmcl._C", sources=[])]


setup(ext_modules=extensions(), cmdclass={"build_ext": CMakeBuild, "build_py": FreshBuildPy})
