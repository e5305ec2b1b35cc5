"""Write the methods block of docs/benchmarks.md from the committed results: `python -m benchmarks.methods.report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.methods import claims, clusters_beside, clusters_literature, results
from benchmarks.methods.shows_claims import CLAIMS
from benchmarks.methods.spread import seed_table
from pyfast_mmcl.train.files import replace_text

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- methods: begin -->", "<!-- methods: end -->"


def main(argv: list[str] | None = None) -> int:
    """Rewrite the block between the marks; with --check, exit 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is out of date")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    old = options.page.read_text(encoding="utf-8")
    if old.count(BEGIN) != 1 or old.count(END) != 1 or old.index(BEGIN) > old.index(END):
        print(f"benchmarks.methods.report: {options.page} must hold {BEGIN} and {END} once each", file=sys.stderr)
        return 2
    head, rest = old.split(BEGIN)
    new = f"{head}{BEGIN}\n\n{block(options.results)}\n{END}{rest.split(END)[1]}"
    if options.check:
        return 0 if new == old else 1
    replace_text(options.page, new)
    return 0


def block(root: Path) -> str:
    """Markdown of every result folder under ``root``, and of the claims that these results decide."""
    sections = [section(results.read(folder)) for folder in results.folders(root)]
    sections += [clusters_beside.section(root), clusters_literature.section(root), claims.section(CLAIMS, root)]
    return "\n".join(filter(None, sections)) or "No results have been recorded yet.\n"


def section(recorded: results.Recorded) -> str:
    """One experiment: prose, where it ran, its tables per stream, its notes."""
    experiment = recorded.experiment
    parts = [f"### {experiment.title}\n", f"{experiment.text}\n", provenance(recorded)]
    for table in experiment.tables:
        for stream in experiment.streams:
            lines = seed_table(experiment, recorded.rows, stream, table)
            if lines:
                title = f"{table.title}, {stream}" if len(experiment.streams) > 1 else table.title
                parts += [f"#### {title}\n", lines]
    return "\n".join([*parts, *(f"{note}\n" for note in experiment.notes)])


def provenance(recorded: results.Recorded) -> str:
    """One paragraph: settings, machine, versions, commits and dates."""
    where, rows = recorded.where, recorded.rows
    settings = ", ".join(f"{name} {value}" for name, value in recorded.experiment.config.items())
    versions = ", ".join(f"{name}={version}" for name, version in where["versions"].items())
    commits = ", ".join(sorted({row.commit for row in rows if row.commit})) or "none"
    dates = sorted(row.date[:10] for row in rows)
    when = f"measured {dates[0]} to {dates[-1]}" if rows else "not measured yet"
    return (
        f"Settings: {settings}. {where['machine']}, {where['threads']} of {where['cores']} cores; {versions}; "
        f"commits {commits}; {when}.\n"
    )


if __name__ == "__main__":
    raise SystemExit(main())
