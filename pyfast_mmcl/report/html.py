"""One HTML file that needs nothing else: styles, tables and drawings are inside it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from .style import STYLE

# Figures are drawn in this colour; it becomes `currentColor`, so that lines and letters follow the page's theme.
INK = "#010203"


@dataclass(frozen=True)
class Markup:
    """HTML that is safe to put in as it is; `best` sets a table's cell bold."""

    html: str
    best: bool = False


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
    columns: Sequence[str | Markup],
    rows: Sequence[Sequence[object]],
    *,
    left: Sequence[int] = (),
    best: Sequence[int] = (),
    caption: str = "",
) -> str:
    """A table; columns in `left` are set left-aligned like words, rows in `best` are set bold.

    A cell may be a `Markup`, which is put in as it is. The first column names the row.
    """

    def cell(i: int, value: object, head: bool) -> str:
        kind = ' class="text"' if i in left else ' class="best"' if isinstance(value, Markup) and value.best else ""
        tag, scope = ("th", ' scope="col"') if head else ("th", ' scope="row"') if i == 0 else ("td", "")
        return f"<{tag}{scope}{kind}>{value.html if isinstance(value, Markup) else text(value)}</{tag}>"

    head = "".join(cell(i, name, True) for i, name in enumerate(columns))
    lines = ["".join(cell(i, value, False) for i, value in enumerate(values)) for values in rows]
    body = "".join(f'<tr class="best">{x}</tr>' if r in best else f"<tr>{x}</tr>" for r, x in enumerate(lines))
    above = f"<caption>{text(caption)}</caption>" if caption else ""
    whole = f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return scroll(whole, caption or f"Table of {columns[0] or 'values'}")


def scroll(block: str, name: str) -> str:
    """A block that scrolls sideways in a narrow window, by pointer and by keyboard; `name` is read to listeners."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(name)}">{block}</div>'


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


def section(title: str, *blocks: str, anchor: str = "") -> str:
    """A titled part of the page; `anchor` is its name in the address."""
    place = f' id="{text(anchor)}"' if anchor else ""
    return f"<section{place}><h2>{text(title)}</h2>{''.join(blocks)}</section>"


def page(title: str, lead: str, sections: Sequence[str], footer: str, *, nav: str = "") -> str:
    """The whole document; `nav` stands above it and stays in sight."""
    skip = '<a class="skip" href="#main">Skip to the content</a>' if nav else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n"
        f'<body>{skip}{nav}<main id="main"><h1>{text(title)}</h1>{paragraph(lead, lead=True)}\n'
        + "\n".join(sections)
        + f"\n<footer>{text(footer)}</footer></main></body></html>\n"
    )
