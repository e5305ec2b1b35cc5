"""What a page says about one stream: measures, accuracy matrices, curves, modalities, cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ..metrics.definitions import DEFINITIONS
from ..metrics.modalities import modality_gap
from ..metrics.seeds import Spread
from . import chart, export, html
from .heat import heat_map
from .measures import COSTS, MEASURES, Cost, Measure, interval, mean_sd, number
from .pooled import Pool

_DIFFERENCES = ("last_accuracy", "average_incremental_accuracy", "forgetting")
_MOST_BANDS = 8
_MATRICES = (
    "{} (%) on each task (columns) after learning each task (rows){}. The framed cell is what was "
    "just learnt; below it stands what is left of it later; cells in italics are tasks ahead."
)


def stream_blocks(group: Sequence[Pool], looks: Mapping[str, chart.Mark]) -> list[str]:
    """Everything about one stream; of a single method what compares methods is left out."""
    own = {pool.label: looks[pool.label] for pool in group}
    several = len(group) > 1
    return [
        measures_table(group),
        _differences(group),
        "<h3>Accuracy matrices</h3>" if several else "",
        html.paragraph(_MATRICES.format(_score(group), ", mean over seeds" if _seeds(group) else "")),
        f'<div class="heats">{"".join(_map(pool) for pool in group)}</div>',
        modalities(group),
        "<h3>Task by task</h3>" if several else "",
        chart.legend(own) if several else "",
        charts(_curves(group, own)),
        "<h3>Cost</h3>" if several else "",
        charts(_cost_charts(group, own)) if several else "",
        _cost_table(group),
    ]


def measures_table(group: Sequence[Pool]) -> str:
    """Methods × measures, in per cent."""
    shown = [m for m in MEASURES if any(known(pool.spread(m.name)) for pool in group)]
    best = {m.name: export.best_label(group, m, apart=export.baselines()) for m in shown}
    rows = [[pool.label, len(pool.runs), *(cell(pool, m, pool.label == best[m.name]) for m in shown)] for pool in group]
    names = ("method", "seeds", *(f"{m.title}{'' if m.more_is_better else ' ↓'}" for m in shown))
    return html.table(names, rows, caption="Measures (%), defined below")


def modalities(group: Sequence[Pool]) -> str:
    """Score after the last task from one modality alone (of pairs: in one direction), where the runs measured it."""
    names = list(dict.fromkeys(name for pool in group for name in pool.modalities))
    rows = []
    for pool in group if names else ():
        alone = {name: pool.last_by_modality(name) for name in names}
        means = {name: s.mean for name, s in alone.items() if known(s)}
        gap = number(100 * modality_gap(means)) if len(means) > 1 else "–"
        rows.append([pool.label, cell(pool, MEASURES[0], False), *(spread_cell(alone[n], False) for n in names), gap])
    if not rows:
        return ""
    maps = "".join(
        heat_map(f"{p.label}: {n}", p.matrix_by_modality(n), names=p.tasks) for p in group for n in p.modalities
    )
    return (
        "<h3>By modality</h3>"
        + html.table(
            ("method", "all", *names, "gap"),
            rows,
            caption="Last (%) from one modality alone; of pairs, in one direction",
        )
        + f'<details><summary>Matrices by modality</summary><div class="heats">{maps}</div></details>'
    )


def definitions() -> str:
    """What every measure means and who reports it so."""
    rows = [(d.name.replace("_", " "), d.word, d.formula, d.reported_by) for d in DEFINITIONS]
    words = (
        "A[i, j] is the accuracy on task j after training on task i, b[j] that of the untrained model, both counted "
        "from 1 to T; of pairs it holds recall at 1 instead. Papers use one word for several measures; here "
        "each has a name of its own, and the exports hold them all."
    )
    names = ("name", "papers call it", "formula", "as reported by")
    return html.paragraph(words) + html.table(names, rows, left=(1, 2, 3))


def _score(group: Sequence[Pool]) -> str:
    """What the matrices hold, as the first word of a sentence."""
    return group[0].score[0].upper() + group[0].score[1:]


def _seeds(group: Sequence[Pool]) -> bool:
    """Whether anything was run with several seeds."""
    return any(len(pool.runs) > 1 for pool in group)


def _map(pool: Pool) -> str:
    return heat_map(pool.label, pool.mean_matrix, sd=pool.sd_matrix, names=pool.tasks)


def _differences(group: Sequence[Pool]) -> str:
    """Each method against fine-tuning, seed by seed, where both were run."""
    base = [pool for pool in group if pool.method == "finetune"]
    shown = [m for m in MEASURES if m.name in _DIFFERENCES]
    rows = []
    for pool in group if len(base) == 1 else ():
        found = [None if pool is base[0] else pool.difference(base[0], m.name) for m in shown]
        if any(map(known, found)):
            rows.append([pool.label, found[0].count, *(spread_cell(spread, False) for spread in found)])
    names = ("method", "shared seeds", *(m.title for m in shown))
    caption = "Difference from finetune in points, paired by seed"
    return html.table(names, rows, caption=caption) if rows else ""


def _curves(group: Sequence[Pool], looks: Mapping[str, chart.Mark]) -> list[str]:
    # Bands of many methods would cover each other and the lines.
    banded = _seeds(group) and len(group) <= _MOST_BANDS
    bands = "; bands are ± one standard deviation over seeds" if banded else ""
    accuracy = {pool.label: pool.accuracy_line(banded) for pool in group}
    blocks = [
        figure(
            chart.lines(
                accuracy,
                looks,
                x="tasks learnt",
                y=f"{group[0].score}, tasks seen (%)",
                alt=_spoken(_score(group), accuracy),
                top=100,
            ),
            f"Mean {group[0].score} over the tasks seen so far{bands}.",
        )
    ]
    forgotten = {pool.label: pool.forgetting_line(banded) for pool in group}
    if len(next(iter(forgotten.values())).values) > 1:
        drawing = chart.lines(
            forgotten, looks, x="tasks learnt", y="forgetting (points)", alt=_spoken("Forgetting", forgotten)
        )
        caption = f"Forgetting (Chaudhry et al. 2018): best accuracy before minus now, mean over earlier tasks{bands}."
        blocks.append(figure(drawing, caption))
    return blocks


def _cost_charts(group: Sequence[Pool], looks: Mapping[str, chart.Mark]) -> list[str]:
    blocks = []
    spread = " ± sd" if _seeds(group) else ""
    for cost in (c for c in COSTS if c.drawn):
        spreads = {pool.label: (pool.cost(cost.amount), pool.spread("last_accuracy")) for pool in group}
        points = {
            label: chart.Point(x.mean, 100 * y.mean, max(0.0, 100 * (y.mean - y.sd)), min(100.0, 100 * (y.mean + y.sd)))
            for label, (x, y) in spreads.items()
            if x is not None and known(y)
        }
        if points:
            alt = "; ".join(f"{label}: {p.x:.3g} for {p.y:.1f} %" for label, p in points.items())
            drawing = chart.scatter(points, looks, x=cost.title, y="Last (%)", alt=f"{cost.title} against Last: {alt}")
            blocks.append(
                figure(
                    drawing, "Accuracy after the last task" + spread + f" against {cost.title}; up and left is better."
                )
            )
    return blocks


def _cost_table(group: Sequence[Pool]) -> str:
    shown = [cost for cost in COSTS if any(pool.cost(cost.amount) for pool in group)]
    rows = [[pool.label, *(_cost_cell(pool, cost) for cost in shown)] for pool in group]
    over = ", mean ± sd over seeds" if _seeds(group) else ""
    caption = (
        f"What a run takes{over}. Times compare on one idle machine only; the data that joint sees again does not "
        "count as kept."
    )
    return html.table(("method", *(cost.title for cost in shown)), rows, caption=caption)


def charts(figures: Sequence[str]) -> str:
    """Drawings side by side where the window is wide enough."""
    return f'<div class="charts">{"".join(figures)}</div>'


def figure(drawing: str, caption: str) -> str:
    """A drawing with its caption."""
    return f"<figure>{drawing}<figcaption>{html.text(caption)}</figcaption></figure>"


def _spoken(what: str, series: Mapping[str, chart.Line]) -> str:
    ends = "; ".join(f"{name} ends at {line.values[-1]:.1f}" for name, line in series.items())
    return f"{what} after each task: {ends}"


def cell(pool: Pool | None, measure: Measure, best: bool) -> html.Markup:
    """A measure of a pool in per cent, its interval below."""
    return spread_cell(None if pool is None else pool.spread(measure.name), best)


def spread_cell(spread: Spread | None, best: bool) -> html.Markup:
    """Mean ± sd in per cent, the interval below."""
    between = interval(spread)
    return html.Markup(mean_sd(spread) + (f"<br><small>{between}</small>" if between else ""), best)


def _cost_cell(pool: Pool, cost: Cost) -> str:
    return mean_sd(pool.cost(cost.amount), 1, cost.digits)


def known(spread: Spread | None) -> bool:
    """Whether there is a mean."""
    return spread is not None and math.isfinite(spread.mean)
