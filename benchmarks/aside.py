"""Libraries kept aside: their wheels bring top-level packages (`benchmarks`, `examples`) that would shadow ours.

`python -m benchmarks.aside NAME …` installs them into folders of their own, without their dependencies on torch and
NumPy, which stay those of everyone else. A contestant's process puts its library's folder at the end of sys.path: what
is installed beside us is found first, and no other process sees the folder at all.

A wheel of torchrl holds an extension for one release of torch. Where that is not the installed one, the extension is
compiled anew, optimised, from the sources that the wheel brings along.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.peer import missing

FOLDER = ROOT / "build" / "peers"
REQUIREMENTS = {
    "opacus": ("opacus", "opt-einsum"),
    "backpack": ("backpack-for-pytorch", "einops", "unfoldNd"),
    "cpprb": ("cpprb",),
    "clustpy": ("clustpy",),
    "torchrl": ("torchrl", "tensordict<0.15", "pyvers<0.3", "hoptorch", "cloudpickle", "packaging"),
}


def main(names: list[str]) -> int:
    """Install the named libraries, all when none is named; pip's status of the first that fails."""
    unknown = [name for name in names if name not in REQUIREMENTS]
    if unknown:
        print(f"benchmarks.aside: unknown {', '.join(unknown)}; choose from {', '.join(REQUIREMENTS)}", file=sys.stderr)
        return 2
    for name in names or REQUIREMENTS:
        command = [sys.executable, "-m", "pip", "install", "--upgrade", "--no-deps", "--target", str(FOLDER / name)]
        status = subprocess.run([*command, *REQUIREMENTS[name]]).returncode
        if status:
            return status
        if name == "torchrl":
            fit_torchrl(FOLDER / name / "torchrl")
    return 0


def fit_torchrl(package: Path) -> None:
    """Compile torchrl's extension for the installed torch if the delivered one was built for another."""
    (delivered,) = package.glob("_torchrl*.so")
    load = f"import torch; torch.ops.load_library({str(delivered)!r})"
    if subprocess.run([sys.executable, "-c", load], capture_output=True).returncode == 0:
        return
    work = package.parent / "compiled"
    work.mkdir(exist_ok=True)
    sources = [str(package / "csrc" / name) for name in ("pybind.cpp", "utils.cpp")]
    build = (
        "from torch.utils.cpp_extension import load;"
        f"load('_torchrl', {sources}, extra_cflags=['-O3'], build_directory={str(work)!r})"
    )
    tools = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([sys.executable, "-c", build], env=os.environ | tools, check=True)
    shutil.copyfile(work / "_torchrl.so", delivered)


def unavailable(name: str, *modules: str) -> str | None:
    """Let this process see the library, last; one sentence when its modules still cannot be imported."""
    folder = str(FOLDER / name)
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    reason = missing(*modules, install=name)
    return reason and reason.replace(f"pip install {name}", f"python -m benchmarks.aside {name}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
