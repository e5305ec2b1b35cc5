"""Write the figures of docs/benchmarks.md from the committed result files: `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import families, goals, kmeans_table, records
from benchmarks.cells import markdown
from benchmarks.families import Family
from benchmarks.machine import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main(argv: list[str] | None = None) -> int:
    """Rewrite the generated part of the page; with --check, exit 1 when it is out of date."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is out of date")
    parser.add_argument("--results", type=Path, default=records.RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(argv)
    old = options.page.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        print(f"benchmarks.report: {options.page} must hold {BEGIN} and {END} once each", file=sys.stderr)
        return 2
    head, rest = old.split(BEGIN)
    new = f"{head}{BEGIN}\n\n{figures(options.results)}\n{END}{rest.split(END)[1]}"
    if options.check:
        return 0 if new == old else 1
    options.page.write_text(new)
    return 0


def figures(results: Path) -> str:
    """Markdown of every machine's results."""
    folders = sorted(path for path in results.iterdir() if path.is_dir()) if results.exists() else []
    parts = [machine_section(folder) for folder in folders]
    return "\n".join(part for part in parts if part) or "No results have been recorded yet.\n"


def machine_section(folder: Path) -> str:
    """What one machine measured, family by family."""
    parts = [family_section(folder, families.load(name)) for name in families.NAMES]
    parts.append(kmeans_table.section(folder))
    return "\n".join(part for part in parts if part)


def family_section(folder: Path, family: Family) -> str:
    rows = [row for file in sorted((folder / family.name).glob("*.csv")) for row in records.read(file)]
    if not rows:
        return ""
    verdicts = family.goals.evaluate(rows)
    parts = [f"### {family.name}: {rows[0]['machine']}, {rows[0]['cores']} cores\n", provenance(rows)]
    if verdicts:
        parts += ["#### Goals\n", goal_table(verdicts)]
    for op in dict.fromkeys(row["op"] for row in rows):
        parts += [f"#### {op}\n", family.tables.op_table([row for row in rows if row["op"] == op])]
    wrong = failures(rows)
    if wrong:
        parts += ["#### Without a figure\n", wrong]
    return "\n".join(parts)


def provenance(rows: list[dict]) -> str:
    """One paragraph: instruction sets, commits, versions, dates, load."""
    versions = sorted({version for row in rows if row["versions"] for version in row["versions"].split()})
    commits = sorted({row["commit"] for row in rows if row["commit"]})
    dates = sorted(row["date"] for row in rows)
    loads = sorted({row["load"].split()[0] for row in rows if row["load"]}, key=str)
    return (
        f"Instruction sets {rows[0]['isa']}; {rows[0]['threads']} threads; commits {', '.join(commits)}; "
        f"measured {dates[0][:10]} to {dates[-1][:10]}; load average before a case {loads[0]} to {loads[-1]}. "
        f"Versions: {', '.join(versions)}.\n"
    )


def goal_table(verdicts: list[goals.Verdict]) -> str:
    head = ("goal", "our mode", "shapes", "worst", "median", "best", "verdict")
    body = [
        (v.text, v.mode, str(len(v.values)), *(f"{value:.2f}×" for value in (v.worst, v.median, v.best)), v.word)
        for v in verdicts
    ]
    return markdown(head, body)


def failures(rows: list[dict]) -> str:
    """Contestants that gave no figure and why, cases counted."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if not row["median_s"]:
            key = (row["contestant"], f"{row['op']}: {row['gate']}")
            counts[key] = counts.get(key, 0) + 1
    return (
        markdown(("contestant", "reason", "cases"), [(*key, str(count)) for key, count in counts.items()])
        if counts
        else ""
    )


if __name__ == "__main__":
    raise SystemExit(main())
