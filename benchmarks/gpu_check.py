"""Everything that needs a GPU, in one command (`make gpu-check`): the tests marked gpu, then the GPU benchmarks.

Results go to benchmarks/results/<GPU>/. Without a GPU it says so and exits with 2.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import families, machine, records
from benchmarks.measure import Effort
from benchmarks.run import Runner

NO_GPU = "gpu-check needs a CUDA GPU that torch can use; none was found on this machine, so nothing was run."


def main(argv: list[str] | None = None) -> int:
    """0 when tests and gates passed, 1 when one failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=records.RESULTS)
    parser.add_argument("--skip-tests", action="store_true")
    options = parser.parse_args(argv)
    import torch

    if not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        return 2
    tests = 0
    if not options.skip_tests:
        tests = subprocess.run([sys.executable, "-m", "pytest", "-m", "gpu", "-q"], cwd=machine.ROOT).returncode
    slug = machine.gpu_slug(torch.cuda.get_device_name())
    failed = False
    for family in map(families.load, families.NAMES):
        runner = Runner(family.contestants.GPU, Effort(), options.results, slug, describe=machine.describe_gpu)
        failed |= bool(runner.run(family.cases.PRESETS["gpu"]))
    return 1 if failed or tests else 0


if __name__ == "__main__":
    raise SystemExit(main())
