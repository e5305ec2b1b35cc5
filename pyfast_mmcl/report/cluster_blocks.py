"""The drawings of a clustering page: confusion as a heat map, places in the plane, images of each cluster."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.image import imsave

from . import chart, colours
from .html import Markup, scroll, table, text

_SIDE, _MARGIN, _DOT = 420, 12, 2.6
_GAP = 2  # pixels between the images of a row


def confusion_map(confusion: Mapping[str, Any]) -> str:
    """Classes × clusters as a table, each cell coloured by its share of the class."""
    counts = np.asarray(confusion["counts"])
    clusters = confusion["clusters"]
    head = "".join(f'<th scope="col" title="cluster {k}">{k}</th>' for k in clusters)
    body = ""
    for name, row in zip(confusion["classes"], counts, strict=True):
        total = max(int(row.sum()), 1)
        cells = "".join(_cell(name, k, int(n), n / total) for k, n in zip(clusters, row, strict=True))
        body += f'<tr><th scope="row">{text(name)}</th>{cells}</tr>'
    whole = (
        '<table class="heat"><caption>Rows by class and cluster</caption>'
        f'<thead><tr><th scope="col">class</th>{head}</tr></thead><tbody>{body}</tbody></table>'
    )
    return scroll(whole, "Rows by class and cluster")


def _cell(name: str, cluster: int, count: int, share: float) -> str:
    if count == 0:
        return "<td></td>"
    hint = text(f"{count:,} rows of {name} in cluster {cluster}: {100 * share:.1f} % of the class")
    return f'<td class="h{colours.level(share)}" title="{hint}">{count}</td>'


def cloud(places: np.ndarray, labels: np.ndarray, looks: Mapping[str, chart.Mark], alt: str) -> str:
    """Places [S, 2] with the mark of each one's label [S], a text; without axes, and with both directions alike."""
    low, high = places.min(0), places.max(0)
    reach = max(float((high - low).max()), 1e-12)
    at = (places - (low + high) / 2) / reach * (_SIDE - 2 * _MARGIN) + _SIDE / 2
    drawn = ""
    for name, mark in looks.items():
        dots = "".join(chart.marker(x, _SIDE - y, mark, _DOT) for x, y in at[labels == name].tolist())
        drawn += f"<g><title>{text(name)}</title>{dots}</g>"
    size = f'viewBox="0 0 {_SIDE} {_SIDE}" width="{_SIDE}" height="{_SIDE}"'
    return f'<svg class="chart" role="img" aria-label="{text(alt)}" {size}><g opacity=".75">{drawn}</g></svg>'


def montage_table(images: np.ndarray, rows: np.ndarray, names: Sequence[str], sizes: Sequence[int]) -> str:
    """One line per cluster: its name, its size and its images [m, 3, H, W], numbered by ``rows`` [K', m]."""
    lines = []
    for sheet, used, name, size in zip(images, rows, names, sizes, strict=True):
        shown = sheet[used >= 0]
        numbers = ", ".join(map(str, used[used >= 0].tolist()))
        lines.append((name, f"{size:,}", Markup(_picture(shown, f"Rows {numbers} of cluster {name}"))))
    return table(("cluster", "rows", "nearest its centre"), lines, left=(2,))


def _picture(images: np.ndarray, alt: str) -> str:
    """Images [m, 3, H, W] side by side as one embedded PNG, enlarged without smoothing to about 48 pixels a side."""
    n, _, height, width = images.shape
    strip = np.zeros((height, n * (width + _GAP) - _GAP, 4), dtype=np.uint8)
    for i, image in enumerate(images):
        left = i * (width + _GAP)
        strip[:, left : left + width, :3] = image.transpose(1, 2, 0)
        strip[:, left : left + width, 3] = 255
    stream = io.BytesIO()
    imsave(stream, strip, format="png", metadata={"Software": ""})
    code = base64.b64encode(stream.getvalue()).decode()
    zoom = max(1, round(48 / max(height, width)))
    size = f'width="{zoom * strip.shape[1]}" height="{zoom * height}"'
    return f'<img class="tiles" src="data:image/png;base64,{code}" alt="{text(alt)}" {size}>'
