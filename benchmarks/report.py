"""Write the figures of docs/benchmarks.md from the committed result files: `python -m benchmarks.report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import contestants as who
from benchmarks import goals, records
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
    rows = [row for file in sorted((folder / records.FAMILY).glob("*.csv")) for row in records.read(file)]
    if not rows:
        return ""
    verdicts = goals.evaluate(rows)
    parts = [f"### {rows[0]['machine']}, {rows[0]['cores']} cores\n", provenance(rows)]
    if verdicts:
        parts += ["#### Goals\n", goal_table(verdicts)]
    for op in dict.fromkeys(row["op"] for row in rows):
        parts += [f"#### {op}\n", op_table([row for row in rows if row["op"] == op])]
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


def op_table(rows: list[dict]) -> str:
    """A line per case: our times, the rivals' times, ratios to the best-tuned faiss, our extra memory."""
    sizes = [letter for letter in "NMDkK" if any(row[letter] for row in rows)]
    others = list(dict.fromkeys(row["contestant"] for row in rows if row["role"] == who.PEER))
    has_faiss = any(row["role"] in goals.FAISS_ANYHOW for row in rows)
    has_packed = any(row["mode"] == "amortised" for row in rows)
    head = [*sizes, "metric", "pyfast ms", *(["packed ms"] if has_packed else [])]
    if has_faiss:
        head += ["faiss installed ms", "faiss best by environment ms", "faiss BLAS forced ms"]
    head += [f"{name} ms" for name in others]
    head += ["× faiss best", "extra MiB"] if has_faiss else ["extra MiB"]
    body = []
    for group in goals.by_case(rows):
        ours, packed = (goals.fastest(group, (who.OURS,), mode) for mode in ("one-shot", "amortised"))
        line = [f"{group[0][letter]:,}" for letter in sizes] + [_kind(group[0]), _ms(ours)]
        line += [_ms(packed)] if has_packed else []
        best = goals.fastest(group, goals.FAISS_ANYHOW)
        if has_faiss:
            line += [_ms(goals.fastest(group, (who.FAISS_INSTALLED,)))]
            line += [_named(goals.fastest(group, goals.FAISS_BEST)), _ms(goals.fastest(group, (who.FAISS_CODE,)))]
        line += [_ms(goals.fastest(group, (name,))) for name in others]
        if has_faiss:
            line += [_ratio(best, goals.fastest(group, (who.OURS,)))]
        line += [" / ".join(_mib(row) for row in (ours, packed) if row)]
        body.append(tuple(line))
    return markdown(tuple(head), body)


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


def _kind(row: dict) -> str:
    extras = [
        row["metric"],
        row["dtype"] if row["dtype"] != "float32" else "",
        "moving" if row["moving"] == "True" else "",
    ]
    return " ".join(part for part in extras if part)


def _ms(row: dict | None) -> str:
    if row is None:
        return "–"
    few = f" ({row['repeats']} turns)" if row["repeats"] < 7 else ""
    return f"{row['median_s'] * 1e3:.4g}{few}"


def _named(row: dict | None) -> str:
    return "–" if row is None else f"{_ms(row)} ({row['contestant'].removeprefix('faiss ')})"


def _ratio(rival: dict | None, ours: dict | None) -> str:
    return "–" if rival is None or ours is None else f"{rival['median_s'] / ours['median_s']:.2f}"


def _mib(row: dict) -> str:
    return "–" if row["extra_mib"] is None else f"{row['extra_mib']:.0f}"


def markdown(head: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
