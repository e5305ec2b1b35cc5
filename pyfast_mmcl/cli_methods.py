"""`pyfast-mmcl methods`: every registered method, in the terminal or as the page docs/methods.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from .report import tables
from .train.registry import Entry, estimators, recipes

HEAD = """# Methods

<!-- Written by `pyfast-mmcl methods --markdown > docs/methods.md`; edit the method's file, not this page. -->

Every method is one file; its name is the file's name and its folder is its family. Defaults are those of the paper,
or stand with their source in the file.
"""
USES = {
    "Continual learning": '`pyfast-mmcl train --method NAME`, or `run_continual("NAME", stream)`.',
    "Clustering": "`pyfast-mmcl cluster rows.npy --method NAME --k 10`, or the scikit-learn style class.",
}


def rooms() -> dict[str, dict[str, Entry]]:
    """The registered methods of both kinds."""
    return {"Continual learning": recipes(), "Clustering": estimators()}


def show(console: Console) -> None:
    """Print one table per kind of method."""
    for title, entries in rooms().items():
        rows = [(e.name, e.family, e.summary, _defaults(e)) for e in _by_family(entries)]
        console.print(tables.plain(title, ("name", "family", "what it does", "defaults"), rows, left=(0, 1, 2, 3)))


def markdown() -> str:
    """The page docs/methods.md."""
    parts = [HEAD]
    for title, entries in rooms().items():
        parts.append(f"\n## {title}\n\n{USES[title]}\n\n| name | family | what it does | defaults | reference |\n")
        parts.append("|---|---|---|---|---|\n")
        for e in _by_family(entries):
            link = f"[{e.name}](../{_relative(e)})"
            cells = (link, e.family.replace("_", " "), e.summary, f"`{_defaults(e)}`" if e.defaults else "–", e.paper)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(parts)


def _by_family(entries: Mapping[str, Entry]) -> list[Entry]:
    return sorted(entries.values(), key=lambda e: (e.family != "baseline", e.family, e.name))


def _defaults(entry: Entry) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in entry.defaults.items())


def _relative(entry: Entry) -> str:
    package = Path(__file__).resolve().parent
    return Path(entry.path).relative_to(package.parent).as_posix()
