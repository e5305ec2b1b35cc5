"""The machine a figure belongs to. Nothing here tells a host name."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ISA_LADDER = ("sse4_2", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """Name with family and model number where the name alone does not say the generation."""
    info = _cpuinfo()
    name = info.get("model name") or platform.processor() or platform.machine()
    numbers = [info.get("cpu family"), info.get("model")]
    return f"{name} (family {numbers[0]}, model {numbers[1]})" if all(numbers) else name


def isa_flags() -> frozenset[str]:
    return frozenset(_cpuinfo().get("flags", "").split())


def isa() -> str:
    """The steps of the instruction-set ladder this CPU has, e.g. 'avx2+avx512f+avx512_bf16'."""
    return "+".join(step for step in ISA_LADDER if step in isa_flags())


def slug(model: str | None = None, count: int | None = None) -> str:
    """Folder name of this machine's results."""
    text = f"{model or cpu_model()} {count or cores()} cores".lower()
    text = text.replace("(family ", "f").replace(", model ", "-m")
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def load_average() -> str:
    return " ".join(f"{value:.2f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else ""


def commit() -> str:
    """Short commit, '+' when measured code differs from it; empty outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    head = git("rev-parse", "--short=10", "HEAD")
    if head is None:
        return ""
    changed = git(
        "status", "--porcelain", "--", "csrc", "pyfast_mmcl/ops", "pyfast_mmcl/_native.py", ":(glob)benchmarks/**/*.py"
    )
    return head + ("+" if changed else "")


def describe() -> dict[str, str | int]:
    """The machine's columns of a result row."""
    return {"machine": cpu_model(), "cores": cores(), "isa": isa(), "load": load_average()}


def gpu_slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def describe_gpu() -> dict[str, str | int]:
    """As `describe`, for the first GPU: its name, its compute capability, its driver and SM clock under `load`."""
    import torch

    major, minor = torch.cuda.get_device_capability()
    query = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm", "--format=csv,noheader", "--id=0"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        driver = "unknown"
    name = torch.cuda.get_device_name()
    return {"machine": name, "cores": cores(), "isa": f"sm_{major}{minor}", "load": f"driver and SM clock {driver}"}
