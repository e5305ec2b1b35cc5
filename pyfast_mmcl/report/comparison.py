"""One page over any number of training runs: tables over seeds, heat maps, curves, costs, exports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import blocks, chart, export, html, runs
from .collect import Collected, show
from .measures import MEASURES, Measure
from .pooled import Pool, pools

_OVERVIEW = ("last_accuracy", "forgetting")
_SPREADS = (
    "Cells are mean ± sample standard deviation over seeds; below it stands the 95 % confidence interval of the mean, "
    "mean ± t[n − 1, 0.975] · sd / √n (Student). It speaks of seeds alone, not of other tasks or test rows. The best "
    "mean of a column is bold, baselines aside; a lead within the intervals is no finding."
)


def write(found: Collected, page: Path) -> list[Path]:
    """Write the page and its tables beside it (…-runs.csv, …-means.csv, ….tex), each whole or not at all."""
    streams = pools(found)
    texts = {
        page: comparison_page(found, streams),
        page.with_name(f"{page.stem}-runs.csv"): export.runs_csv(found),
        page.with_name(f"{page.stem}-means.csv"): export.means_csv(streams),
        page.with_suffix(".tex"): export.latex(streams),
    }
    for path, words in texts.items():
        with runs.whole_file(path) as stream:
            stream.write(words.encode())
    return list(texts)


def comparison_page(found: Collected, streams: Mapping[str, Sequence[Pool]]) -> str:
    """The page as text."""
    labels = list(dict.fromkeys(pool.label for group in streams.values() for pool in group))
    looks = chart.marks(sorted(labels))
    seeds = {run.seed for run in found.runs}
    counts = (len(found.runs), "runs"), (len(labels), "methods"), (len(streams), "streams"), (len(seeds), "seeds")
    parts = {"Overview": _overview(streams)}
    parts |= {stream: "".join(blocks.stream_blocks(group, looks)) for stream, group in streams.items()}
    parts |= {"Definitions": blocks.definitions(), "Export": _exports(found, streams), "Runs": _runs(found)}
    cards = html.cards([(f"{count:,}", name if count != 1 else name[:-1]) for count, name in counts])
    lead = f"{', '.join(sorted({pool.method for group in streams.values() for pool in group}))}."
    return html.page("Comparison of runs", lead, [cards, *_sections(parts)], _versions(found), nav=_nav(list(parts)))


def _sections(parts: Mapping[str, str]) -> list[str]:
    return [html.section(title, body, anchor=f"part-{i}") for i, (title, body) in enumerate(parts.items())]


def _nav(titles: Sequence[str]) -> str:
    items = "".join(f'<li><a href="#part-{i}">{html.text(title)}</a></li>' for i, title in enumerate(titles))
    return f'<nav aria-label="Parts of this page"><ul>{items}</ul></nav>'


def _overview(streams: Mapping[str, Sequence[Pool]]) -> str:
    labels = sorted({pool.label for group in streams.values() for pool in group})
    by_label = {stream: {pool.label: pool for pool in group} for stream, group in streams.items()}
    tables = [html.paragraph(_SPREADS)]
    for measure in (m for m in MEASURES if m.name in _OVERVIEW):
        apart = export.baselines()
        best = {stream: export.best_label(group, measure, apart=apart) for stream, group in streams.items()}
        rows = []
        for label in labels:
            cells = (blocks.cell(by_label[s].get(label), measure, label == best[s]) for s in streams)
            rows.append([label, *cells])
        caption = f"{_words(measure)} (%){'' if measure.more_is_better else ', lower is better'}"
        tables.append(html.table(("method", *map(_head, streams)), rows, caption=caption))
    return "".join(tables)


def _head(stream: str) -> html.Markup:
    """A stream's name with what else is said about it below, so that columns stay narrow."""
    name, *rest = map(html.text, stream.split(" · "))
    return html.Markup(f"{name}<br><small>{'<br>'.join(rest)}</small>")


def _exports(found: Collected, streams: Mapping[str, Sequence[Pool]]) -> str:
    tables = export.latex(streams)
    buttons = (
        export.button("Means as CSV", "means.csv", export.means_csv(streams), "text/csv")
        + export.button("Runs as CSV", "runs.csv", export.runs_csv(found), "text/csv")
        + export.button("Tables as LaTeX", "tables.tex", tables, "text/plain")
    )
    words = "Fractions at full precision in the CSV files, per cent in the LaTeX tables (package `booktabs`)."
    shown = f"<details><summary>LaTeX to copy</summary><pre>{html.text(tables)}</pre></details>"
    return html.paragraph(words) + buttons + shown


def _runs(found: Collected) -> str:
    rows = [(r.name, r.stream, r.method, r.seed, show(r.settings)) for r in found.runs]
    whole = html.table(("folder", "stream", "method", "seed", "settings"), rows, left=(1, 2, 4))
    if not found.left_out:
        return whole
    return whole + "<h3>Left out</h3>" + html.table(("folder", "why"), found.left_out, left=(1,))


def _versions(found: Collected) -> str:
    seen = {", ".join(f"{name} {value}" for name, value in run.versions.items()) for run in found.runs}
    mixed = "Runs of different versions: " if len(seen) > 1 else ""
    return mixed + "; ".join(sorted(seen)) + "."


def _words(measure: Measure) -> str:
    return measure.name.replace("_", " ").capitalize()
