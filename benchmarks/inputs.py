"""Make a case's inputs and float64 truth: `python -m benchmarks.inputs CASE_JSON FOLDER`.

A program of its own, so that its BLAS is free of every contestant's settings.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import families


def main(case_json: str, folder: str) -> None:
    fields = json.loads(case_json)
    family = families.of(fields["op"])
    family.data.make(family.cases.Case(**fields), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:3])
