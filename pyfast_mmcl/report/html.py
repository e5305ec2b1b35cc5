"""One HTML file that needs nothing else: styles, tables and drawings are inside it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

# Figures are drawn in this colour; it becomes `currentColor`, so that lines and letters follow the page's theme.
INK = "#010203"

STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1d2129; --soft: #5c6470; --line: #e1e3e6;
        --accent: #0b6aa8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --card: #1c2026; --ink: #e6e8eb; --soft: #9aa3ae; --line: #323840; --accent: #6cb8ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p { margin: .5rem 0 1rem; max-width: 46rem; }
.lead, figcaption, footer { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem;
        min-width: 9.5rem; }
.card b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; color: var(--accent); }
.card span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .32rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
td.text, th.text { text-align: left; white-space: normal; }
th { font-weight: 600; color: var(--soft); }
tr.best td { font-weight: 600; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .5rem 0 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
         padding: .8rem; max-width: 100%; }
figure svg { display: block; max-width: 100%; height: auto; color: var(--ink); }
figcaption { font-size: .85rem; margin-top: .4rem; max-width: 40rem; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .9em; }
footer { margin-top: 3rem; font-size: .85rem; border-top: 1px solid var(--line); padding-top: .75rem; }
"""


def text(value: object) -> str:
    """`value` as HTML text: every character that could open a tag, an entity or an attribute is escaped."""
    return html.escape(str(value), quote=True)


def paragraph(value: object, *, lead: bool = False) -> str:
    """A paragraph of plain text; words between back-ticks are set as code."""
    body = re.sub(r"`([^`]+)`", r"<code>\1</code>", text(value))
    return f'<p class="lead">{body}</p>' if lead else f"<p>{body}</p>"


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Headline figures: pairs of (value, what it is)."""
    inner = "".join(f'<div class="card"><b>{text(value)}</b><span>{text(name)}</span></div>' for value, name in figures)
    return f'<div class="cards">{inner}</div>'


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[int] = (), best: Sequence[int] = ()
) -> str:
    """A table; columns in `left` are set left-aligned like words, rows in `best` are set bold."""

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(
            f'<{tag} class="text">{text(v)}</{tag}>' if i in left else f"<{tag}>{text(v)}</{tag}>"
            for i, v in enumerate(values)
        )

    head = f"<tr>{cells('th', columns)}</tr>"
    body = "".join(
        f'<tr class="best">{cells("td", row)}</tr>' if i in best else f"<tr>{cells('td', row)}</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def svg(fig: Figure, name: str) -> str:
    """The figure as inline SVG; `name` prefixes its ids, so that several drawings live on one page."""
    buffer = io.StringIO()
    # A fixed salt and no date: equal figures are equal bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        fig.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{re.escape(name)}-", drawing)
    return drawing.replace(INK, "currentColor")


def figure(fig: Figure, name: str, caption: str) -> str:
    """A drawing with its caption."""
    return (
        f'<figure role="img" aria-label="{text(caption)}">{svg(fig, name)}<figcaption>{text(caption)}</figcaption>'
        "</figure>"
    )


def row(*blocks: str) -> str:
    """Blocks side by side where the window is wide enough."""
    return f'<div class="row">{"".join(blocks)}</div>'


def section(title: str, *blocks: str) -> str:
    """A titled part of the page."""
    return f"<section><h2>{text(title)}</h2>{''.join(blocks)}</section>"


def page(title: str, lead: str, sections: Sequence[str], footer: str) -> str:
    """The whole document."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{text(title)}</h1>{paragraph(lead, lead=True)}\n"
        + "\n".join(sections)
        + f"\n<footer>{text(footer)}</footer></main></body></html>\n"
    )
