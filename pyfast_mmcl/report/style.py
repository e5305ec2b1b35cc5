"""The style sheet of every page: light and dark by the reader's setting, on screen and on paper."""

from __future__ import annotations

from . import colours

_BASE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: LIGHT_CARD; --ink: #1d2129; --soft: #5c6470;
        --line: #e1e3e6; --accent: #0b6aa8; LIGHT_RULES }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --card: DARK_CARD; --ink: #e6e8eb; --soft: #9aa3ae; --line: #323840; --accent: #6cb8ee;
          DARK_RULES } }
* { box-sizing: border-box; }
html { scroll-padding-top: 3.5rem; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p { margin: .5rem 0 1rem; max-width: 46rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.lead, figcaption, footer, caption { color: var(--soft); }
.cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem 1rem;
        min-width: 9.5rem; }
.card b { display: block; font-size: 1.45rem; font-variant-numeric: tabular-nums; color: var(--accent); }
.card span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; font-size: .85rem; padding-bottom: .35rem; }
th, td { padding: .32rem .8rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
td.text, th.text { text-align: left; white-space: normal; }
th { font-weight: 600; color: var(--soft); }
thead th { white-space: normal; vertical-align: bottom; }
tbody th { color: var(--ink); font-weight: 500; }
tr.best td, td.best { font-weight: 700; }
td small, th small { color: var(--soft); font-weight: 400; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: .5rem 0 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
         padding: .8rem; max-width: 100%; }
figure svg { display: block; max-width: 100%; height: auto; color: var(--ink); }
figcaption { font-size: .85rem; margin-top: .4rem; max-width: 40rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .9em; }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem; }
footer { margin-top: 3rem; font-size: .85rem; border-top: 1px solid var(--line); padding-top: .75rem; }
"""

_HEAT = """
.heat { border-collapse: separate; border-spacing: 2px; font-size: .82rem; }
.heat th, .heat td { border: 0; padding: .2rem .35rem; text-align: center; min-width: 2.3rem; }
.heat th { font-weight: 500; color: var(--soft); }
.heat tbody th { text-align: right; color: var(--soft); white-space: nowrap; padding-left: 0; }
.heat thead th { max-width: 6rem; overflow: hidden; text-overflow: ellipsis; }
.heat td { border-radius: 3px; }
.heat td.own { outline: 2px solid var(--ink); outline-offset: -2px; }
.heat td.ahead { font-style: italic; }
.heat caption { color: var(--ink); font-weight: 600; font-size: .92rem; }
.heats { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
.heats .scroll { margin: .25rem 0; }
"""

_COMPARISON = """
nav { position: sticky; top: 0; z-index: 1; background: var(--paper); border-bottom: 1px solid var(--line);
      padding: .5rem 1.25rem; font-size: .9rem; overflow-x: auto; white-space: nowrap; }
nav ul { display: flex; gap: 1.25rem; list-style: none; margin: 0 auto; padding: 0; max-width: 63.5rem; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--card); padding: .3rem .6rem; z-index: 2; }
.button { display: inline-block; border: 1px solid var(--line); background: var(--card); border-radius: .4rem;
          padding: .3rem .75rem; margin: 0 .5rem .5rem 0; font-size: .9rem; text-decoration: none; }
.button:hover { border-color: var(--accent); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; padding: 0; margin: .5rem 0;
          font-size: .85rem; }
.legend svg { vertical-align: middle; margin-right: .35rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); gap: 0 1rem; }
.charts svg { width: 100%; }
.charts .legend svg { width: auto; }
.chart text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
              fill: var(--soft); font-variant-numeric: tabular-nums; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .axis { stroke: var(--soft); stroke-width: 1; }
.chart .name { fill: var(--ink); }
.tiles { image-rendering: pixelated; display: block; border-radius: 3px; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--accent); }
@media print { nav, .button { display: none; } body { font-size: 12px; } section { break-inside: avoid-page; } }
"""


def _with_colours(text: str) -> str:
    for word, value in {
        "LIGHT_CARD": colours.LIGHT,
        "DARK_CARD": colours.DARK,
        "LIGHT_RULES": colours.rules(colours.LIGHT),
        "DARK_RULES": colours.rules(colours.DARK),
    }.items():
        text = text.replace(word, value)
    return text


_LEVELS = "".join(f".h{i}{{background:var(--h{i});color:var(--t{i})}}" for i in range(colours.LEVELS + 1))
STYLE = _with_colours(_BASE) + _HEAT + _LEVELS + _COMPARISON
