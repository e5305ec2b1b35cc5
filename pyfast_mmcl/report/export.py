"""The numbers of a comparison for other programs: CSV of runs, CSV of means, LaTeX tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from ..metrics.seeds import Spread
from ..train import History
from ..train.registry import recipes
from .collect import Collected, show
from .html import text
from .measures import COSTS, MEASURES, Measure
from .pooled import Pool

_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"·": r"$\cdot$", "×": r"$\times$", "−": "$-$", "±": r"$\pm$", "–": "--"},
}


def runs_csv(found: Collected) -> str:
    """A row per run: stream, method, seed, every measure as a fraction, costs, settings, folder."""
    names = list(dict.fromkeys(name for run in found.runs for name in run.history.summary()))
    head = ["stream", "method", "seed", *names, *(cost.name for cost in COSTS), "settings", "folder"]
    rows = []
    for run in found.runs:
        summary = run.history.summary()
        costs = [cost.amount(run.history) for cost in COSTS]
        values = [exact(summary.get(name)) for name in names] + [exact(cost) for cost in costs]
        rows.append([run.stream, run.method, run.seed, *values, show(run.settings), run.name])
    return write_rows(head, rows)


def means_csv(streams: Mapping[str, Sequence[Pool]]) -> str:
    """A row per stream, method and measure (fraction) or cost: mean, sd, 95 % interval, number of seeds."""
    rows = []
    for stream, pools in streams.items():
        for pool in pools:
            names = list(dict.fromkeys(name for summary in pool.summaries.values() for name in summary))
            spreads = [(name, pool.spread(name)) for name in names]
            spreads += [(cost.name, pool.cost(cost.amount)) for cost in COSTS]
            for name, s in spreads:
                if s is not None:
                    numbers = [exact(v) for v in (s.mean, s.sd, s.low, s.high)]
                    rows.append([stream, pool.label, name, *numbers, s.count])
    return write_rows(["stream", "method", "measure", "mean", "sd", "low_95", "high_95", "seeds"], rows)


def matrix_csv(history: History) -> str:
    """The accuracy matrix as fractions: a row for the untrained model, then one after each task; a column per task."""
    rows = [("untrained", *map(exact, history.initial))] if history.initial else []
    rows += [(name, *map(exact, row)) for name, row in zip(history.tasks, history.accuracy, strict=False)]
    return write_rows(["after", *history.tasks], rows)


def latex(streams: Mapping[str, Sequence[Pool]]) -> str:
    """Tables (booktabs) in per cent, the best mean of a column in bold, baselines aside.

    Methods × streams by the accuracy after the last task where there are several streams, then methods × measures.
    """
    tables = [_methods_by_measures(stream, pools) for stream, pools in streams.items()]
    return "\n".join([_methods_by_streams(streams), *tables] if len(streams) > 1 else tables)


def baselines() -> frozenset[str]:
    """Methods that are measured to compare with: bounds from below and above, not competitors."""
    return frozenset(name for name, entry in recipes().items() if entry.family == "baselines")


def best_label(pools: Sequence[Pool], measure: Measure, *, apart: Iterable[str] = ()) -> str | None:
    """The label with the best mean among methods that are not in ``apart``; None where two share it or one competes."""
    means = {p.label: p.spread(measure.name) for p in pools if p.method not in apart}
    known = {label: s.mean for label, s in means.items() if s is not None and math.isfinite(s.mean)}
    best = (max if measure.more_is_better else min)(known.values(), default=math.nan)
    leaders = [label for label, mean in known.items() if mean == best]
    return leaders[0] if len(leaders) == 1 and len(known) > 1 else None


def button(words: str, name: str, content: str, kind: str) -> str:
    """A link that saves ``content`` as a file; the content is in the page, so it works without a network."""
    address = f"data:{kind};charset=utf-8,{quote(content)}"
    return f'<a class="button" download="{text(name)}" href="{address}">{text(words)}</a>'


def escape_latex(value: object) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(c, c) for c in str(value))


def _methods_by_streams(streams: Mapping[str, Sequence[Pool]]) -> str:
    last = MEASURES[0]
    best = {stream: best_label(pools, last, apart=baselines()) for stream, pools in streams.items()}
    found = {stream: {pool.label: pool.spread(last.name) for pool in pools} for stream, pools in streams.items()}
    labels = sorted({label for pools in found.values() for label in pools})
    rows = [[label, *(_latex_cell(found[s].get(label), label == best[s]) for s in streams)] for label in labels]
    everything = [pool for pools in streams.values() for pool in pools]
    return _latex_table("Accuracy after the last task", list(streams), rows, everything)


def _methods_by_measures(stream: str, pools: Sequence[Pool]) -> str:
    shown = [m for m in MEASURES if any(_known(pool.spread(m.name)) for pool in pools)]
    best = {m.name: best_label(pools, m, apart=baselines()) for m in shown}
    rows = [[p.label, *(_latex_cell(p.spread(m.name), p.label == best[m.name]) for m in shown)] for p in pools]
    return _latex_table(stream, [m.title for m in shown], rows, pools)


def _latex_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], pools: Sequence[Pool]) -> str:
    """A table whose rows are a name and cells that are LaTeX already."""
    seeds = sorted({len(pool.runs) for pool in pools})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    caption = f"{escape_latex(title)}. Per cent, mean $\\pm$ standard deviation over {count} seed(s)."
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(["method", *map(escape_latex, columns)]) + r" \\",
            r"\midrule",
            *(" & ".join([escape_latex(label), *cells]) + r" \\" for label, *cells in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(spread: Spread | None, best: bool) -> str:
    if not _known(spread):
        return "--"
    mean = f"{100 * spread.mean:.1f}"
    mean = rf"\mathbf{{{mean}}}" if best else mean
    return f"${mean}$" if spread.count == 1 else rf"${mean} \pm {100 * spread.sd:.1f}$"


def _known(spread: Spread | None) -> bool:
    return spread is not None and math.isfinite(spread.mean)


def exact(value: float | None) -> str:
    """A float's exact value; empty where it is undefined."""
    return "" if value is None or not math.isfinite(value) else repr(float(value))


def write_rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """CSV text: a line of names, a line per row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()
