"""`pyfast-mmcl doctor`: what runs here, what does not, and why."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from importlib import metadata
from typing import Any

from rich.console import Console

from . import __version__
from .report import tables

# Import name, distribution and what it is for. The extras are those of pyproject.toml.
OPTIONAL = (
    ("triton", "triton", "GPU kernels · pip install 'pyfast_mmcl[gpu]'"),
    ("pyarrow", "pyarrow", ".parquet files in cluster · pip install 'pyfast_mmcl[parquet]'"),
    ("faiss", "faiss-cpu", "a peer in bench · pip install 'pyfast_mmcl[bench]'"),
    ("usearch", "usearch", "a peer in the benchmarks · pip install 'pyfast_mmcl[bench]'"),
    ("open_clip", "open_clip_torch", "pretrained image-text encoders"),
    ("accelerate", "accelerate", "several processes or machines"),
)


def show(console: Console) -> None:
    """Print the machine, the backends of every op and the optional packages."""
    from . import ops

    backends = [
        (row["op"], row["backend"], "yes" if row["available"] else "no", row["reason"] or "ready")
        for row in ops.backends()
    ]
    console.print(tables.plain("This machine", ("", ""), machine(), left=(0, 1)))
    console.print(
        tables.plain(
            "Backends, in order of preference", ("op", "backend", "available", "why"), backends, left=(0, 1, 2, 3)
        )
    )
    console.print(tables.plain("Optional packages", ("package", "version", "what for"), packages(), left=(0, 1, 2)))


def machine() -> list[tuple[str, str]]:
    """Versions, processor, instruction set, threads and GPU as (name, value) rows."""
    import numpy
    import torch

    from . import _native

    native = _native.info()
    compiled = f"version {native['version']}" if native["built"] else f"no: {native['reason']}"
    instructions = f"{native['isa']} (built and runnable here: {', '.join(native['isas'])})" if native["built"] else "–"
    return [
        ("pyfast_mmcl", __version__),
        ("Python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.release()}, {platform.machine()}"),
        ("torch, NumPy", f"{torch.__version__}, {numpy.__version__}"),
        ("compiled module", compiled),
        ("instruction set", instructions),
        ("CUDA kernels", _cuda_kernels(native)),
        ("GPU", _gpu(torch)),
        ("threads", f"torch {torch.get_num_threads()}, cores usable {usable_cores()}"),
        ("settings", _settings()),
    ]


def usable_cores() -> int:
    """Cores this process may run on; fewer than the machine has under taskset or in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda_kernels(native: dict) -> str:
    if not native["built"]:
        return "no: nothing is compiled"
    return "built in" if native["cuda"] else "not built in: set PYFAST_CUDA=ON and reinstall with nvcc on the PATH"


def _gpu(torch: Any) -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    return f"none usable ({built})"


def _settings() -> str:
    names = ("PYFAST_ISA", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "CUDA_VISIBLE_DEVICES", "PYFAST_MMCL_DATA")
    found = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return ", ".join(found) or "no environment variable that matters is set"


def packages() -> list[tuple[str, str, str]]:
    """Optional packages as (name, version or "not installed", what it is for)."""
    rows = []
    for module, distribution, purpose in OPTIONAL:
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            # conda and vendor builds ship the module under another distribution name.
            version = "version unknown" if importlib.util.find_spec(module) else "not installed"
        rows.append((module, version, purpose))
    return rows
