"""Two sets of results side by side: `python -m benchmarks.compare OLD NEW`, each a result file or a commit.

A commit stands for the result files of this machine (or of --machine) as they were in it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import families, machine, records

NOISE = 0.05  # ratios closer to 1 than this are called equal


def main(argv: list[str] | None = None) -> int:
    """Print time(OLD) / time(NEW) per case and contestant; above 1 NEW is faster. 2 for a wrong command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.split("\n")[0])
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--machine", default=machine.slug(), help="folder name under benchmarks/results")
    parser.add_argument("--contestant", default="pyfast", help="contestants whose name begins with this")
    options = parser.parse_args(argv)
    try:
        old, new = (load(side, options.machine) for side in (options.old, options.new))
    except ValueError as error:
        print(f"benchmarks.compare: {error}", file=sys.stderr)
        return 2
    print(ratio_table(old, new, options.contestant))
    return 0


def load(side: str, slug: str) -> list[dict]:
    """Rows of a result file, or of a commit's result files."""
    if Path(side).is_file():
        return records.read(Path(side))
    rows = []
    for op in families.every_op():
        path = records.path_of(slug, op).relative_to(machine.ROOT)
        shown = subprocess.run(["git", "show", f"{side}:{path}"], cwd=machine.ROOT, capture_output=True, text=True)
        rows += records.parse(shown.stdout) if shown.returncode == 0 else []
    if not rows:
        raise ValueError(f"{side!r} is neither a result file nor a commit with results for {slug}")
    return rows


def ratio_table(old: list[dict], new: list[dict], prefix: str) -> str:
    """One line per case and contestant measured on both sides."""
    before = {(records.case_key(row), row["contestant"]): row for row in old if row["median_s"]}
    lines = [f"{'case':<42} {'contestant':<24} {'old ms':>11} {'new ms':>11} {'old/new':>8}"]
    for row in new:
        match = before.get((records.case_key(row), row["contestant"]))
        if match is None or not row["median_s"] or not row["contestant"].startswith(prefix):
            continue
        ratio = match["median_s"] / row["median_s"]
        word = "equal" if abs(ratio - 1) < NOISE else "faster" if ratio > 1 else "slower"
        family = families.of(row["op"])
        sizes = [f"{letter}={row[letter]}" for letter in family.cases.SIZES if row[letter]]
        name = " ".join([row["op"], *sizes, family.tables.kind(row)])
        lines.append(
            f"{name:<42} {row['contestant']:<24} {match['median_s'] * 1e3:11.3f} {row['median_s'] * 1e3:11.3f}"
            f" {ratio:8.2f} {word}"
        )
    return "\n".join(lines) if len(lines) > 1 else "no case was measured on both sides"


if __name__ == "__main__":
    raise SystemExit(main())
