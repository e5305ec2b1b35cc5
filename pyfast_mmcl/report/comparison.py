"""One page over any number of training runs: tables over seeds, heat maps, curves, costs, exports."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..metrics.definitions import DEFINITIONS
from ..metrics.seeds import Spread
from ..train.registry import recipes
from . import chart, export, html, runs
from .collect import Collected, show
from .heat import heat_map
from .measures import COSTS, MEASURES, Cost, Measure, interval, mean_sd
from .pooled import Pool, pools

_OVERVIEW = ("last_accuracy", "forgetting")
_DIFFERENCES = ("last_accuracy", "average_incremental_accuracy", "forgetting")
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
    parts |= {stream: "".join(_stream_blocks(group, looks)) for stream, group in streams.items()}
    parts |= {"Definitions": _definitions(), "Export": _exports(found, streams), "Runs": _runs(found)}
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
    blocks = [html.paragraph(_SPREADS)]
    for measure in (m for m in MEASURES if m.name in _OVERVIEW):
        best = {stream: export.best_label(group, measure, apart=_baselines()) for stream, group in streams.items()}
        rows = [
            [label, *(_cell(by_label[s].get(label), measure, label == best[s]) for s in streams)] for label in labels
        ]
        caption = f"{_words(measure)} (%){'' if measure.more_is_better else ', lower is better'}"
        blocks.append(html.table(("method", *streams), rows, caption=caption))
    return "".join(blocks)


def _stream_blocks(group: Sequence[Pool], looks: Mapping[str, chart.Mark]) -> list[str]:
    shown = [m for m in MEASURES if any(_known(pool.spread(m.name)) for pool in group)]
    best = {m.name: export.best_label(group, m, apart=_baselines()) for m in shown}
    rows = [
        [pool.label, len(pool.runs), *(_cell(pool, m, pool.label == best[m.name]) for m in shown)] for pool in group
    ]
    names = ("method", "seeds", *(f"{m.title}{'' if m.more_is_better else ' ↓'}" for m in shown))
    own = {pool.label: looks[pool.label] for pool in group}
    maps = "".join(heat_map(p.label, p.mean_matrix, sd=p.sd_matrix, names=p.tasks) for p in group)
    return [
        html.table(names, rows, caption="Measures (%), defined below"),
        _differences(group),
        "<h3>Accuracy matrices</h3>",
        html.paragraph(
            "Accuracy (%) on each task (columns) after learning each task (rows), mean over seeds. The framed cell is "
            "what was just learnt; below it stands what is left of it later; cells in italics are tasks ahead."
        ),
        f'<div class="heats">{maps}</div>',
        "<h3>Task by task</h3>",
        chart.legend(own),
        _charts(_curves(group, own)),
        "<h3>Cost</h3>",
        _charts(_cost_charts(group, own)),
        _cost_table(group),
    ]


def _differences(group: Sequence[Pool]) -> str:
    """Each method against fine-tuning, seed by seed, where both were run."""
    base = [pool for pool in group if pool.method == "finetune"]
    shown = [m for m in MEASURES if m.name in _DIFFERENCES]
    rows = []
    for pool in group if len(base) == 1 else ():
        found = [None if pool is base[0] else pool.difference(base[0], m.name) for m in shown]
        if any(map(_known, found)):
            rows.append([pool.label, found[0].count, *(_spread_cell(spread, False) for spread in found)])
    names = ("method", "shared seeds", *(m.title for m in shown))
    caption = "Difference from finetune in points, paired by seed"
    return html.table(names, rows, caption=caption) if rows else ""


def _curves(group: Sequence[Pool], looks: Mapping[str, chart.Mark]) -> list[str]:
    accuracy = {pool.label: pool.accuracy_line() for pool in group}
    blocks = [
        _figure(
            chart.lines(
                accuracy,
                looks,
                x="tasks learnt",
                y="accuracy, tasks seen (%)",
                alt=_spoken("Accuracy", accuracy),
                top=100,
            ),
            "Mean accuracy over the tasks seen so far; bands are ± one standard deviation over seeds.",
        )
    ]
    forgotten = {pool.label: pool.forgetting_line() for pool in group}
    if len(next(iter(forgotten.values())).values) > 1:
        drawing = chart.lines(
            forgotten, looks, x="tasks learnt", y="forgetting (points)", alt=_spoken("Forgetting", forgotten)
        )
        caption = "Forgetting (Chaudhry et al. 2018) of the tasks learnt so far: best accuracy before minus now."
        blocks.append(_figure(drawing, caption))
    return blocks


def _cost_charts(group: Sequence[Pool], looks: Mapping[str, chart.Mark]) -> list[str]:
    blocks = []
    for cost in (c for c in COSTS if c.drawn):
        spreads = {pool.label: (pool.cost(cost.amount), pool.spread("last_accuracy")) for pool in group}
        points = {
            label: chart.Point(x.mean, 100 * y.mean, 100 * y.low, 100 * y.high)
            for label, (x, y) in spreads.items()
            if x is not None and _known(y)
        }
        if points:
            alt = "; ".join(f"{label}: {p.x:.3g} for {p.y:.1f} %" for label, p in points.items())
            drawing = chart.scatter(points, looks, x=cost.title, y="Last (%)", alt=f"{cost.title} against Last: {alt}")
            blocks.append(
                _figure(drawing, f"Accuracy after the last task against {cost.title}; up and left is better.")
            )
    return blocks


def _cost_table(group: Sequence[Pool]) -> str:
    shown = [cost for cost in COSTS if any(pool.cost(cost.amount) for pool in group)]
    rows = [[pool.label, *(_cost_cell(pool, cost) for cost in shown)] for pool in group]
    caption = (
        "What a run takes, mean ± sd over seeds. Times compare on one idle machine only; the data that joint sees "
        "again does not count as kept."
    )
    return html.table(("method", *(cost.title for cost in shown)), rows, caption=caption)


def _definitions() -> str:
    rows = [(d.name.replace("_", " "), d.word, d.formula, d.reported_by) for d in DEFINITIONS]
    words = (
        "A[i, j] is the accuracy on task j after training on task i, b[j] that of the untrained model, both counted "
        "from 1 to T. Papers use one word for several measures; here each has a name of its own, and the exports hold "
        "them all."
    )
    return html.paragraph(words) + html.table(
        ("name", "papers call it", "formula", "as reported by"), rows, left=(1, 2, 3)
    )


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
    blocks = html.table(("folder", "stream", "method", "seed", "settings"), rows, left=(1, 2, 4))
    if found.left_out:
        blocks += "<h3>Left out</h3>" + html.table(("folder", "why"), found.left_out, left=(1,))
    return blocks


def _versions(found: Collected) -> str:
    seen = {", ".join(f"{name} {value}" for name, value in run.versions.items()) for run in found.runs}
    mixed = "Runs of different versions: " if len(seen) > 1 else ""
    return mixed + "; ".join(sorted(seen)) + "."


def _charts(figures: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(figures)}</div>'


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{html.text(caption)}</figcaption></figure>"


def _spoken(what: str, series: Mapping[str, chart.Line]) -> str:
    ends = "; ".join(f"{name} ends at {line.values[-1]:.1f}" for name, line in series.items())
    return f"{what} after each task: {ends}"


def _cell(pool: Pool | None, measure: Measure, best: bool) -> html.Markup:
    return _spread_cell(None if pool is None else pool.spread(measure.name), best)


def _spread_cell(spread: Spread | None, best: bool) -> html.Markup:
    between = interval(spread)
    return html.Markup(mean_sd(spread) + (f"<br><small>{between}</small>" if between else ""), best)


def _cost_cell(pool: Pool, cost: Cost) -> str:
    return mean_sd(pool.cost(cost.amount), 1, cost.digits)


def _known(spread: Spread | None) -> bool:
    return spread is not None and math.isfinite(spread.mean)


def _words(measure: Measure) -> str:
    return measure.name.replace("_", " ").capitalize()


def _baselines() -> frozenset[str]:
    """Methods that are measured to compare with: bounds from below and above, not competitors."""
    return frozenset(name for name, entry in recipes().items() if entry.family == "baselines")
