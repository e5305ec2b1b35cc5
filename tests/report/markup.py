"""Reads a page as a browser's parser does, and says what a reader with a screen reader would miss."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

_VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes), in order; ``broken`` lists tags that do not close each other."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.broken: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.broken += self._open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()
        elif not (self.get_starttag_text() or "").endswith("/>"):
            self.broken.append(f"/{tag}")

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def every(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def loads(page: Page) -> list[str]:
    """Addresses that the page would fetch; data: and places within the page are none."""
    found = [a[n] for _, a in page.elements for n in ("src", "href", "xlink:href", "action", "poster") if n in a]
    found += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", page.text)
    return [address for address in found if not str(address).startswith(("data:", "#"))]


def barriers(page: Page) -> list[str]:
    """What stands in the way of readers who listen, tab or enlarge."""
    found = []
    if page.every("html")[0].get("lang") != "en":
        found.append("no language")
    found += [f"unlabelled drawing {a}" for a in page.every("svg") if not (a.get("aria-label") or a.get("aria-hidden"))]
    found += [f"header without scope {a}" for a in page.every("th") if a.get("scope") not in ("row", "col")]
    found += [f"unnamed region {a}" for _, a in page.elements if a.get("role") == "region" and not a.get("aria-label")]
    names = [a["id"] for _, a in page.elements if "id" in a]
    found += [f"id {name} twice" for name in set(names) if names.count(name) > 1]
    anchors = [a["href"][1:] for a in page.every("a") if a.get("href", "").startswith("#")]
    found += [f"#{anchor} leads nowhere" for anchor in anchors if anchor not in names]
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    found += [f"heading h{b} after h{a}" for a, b in pairwise(levels) if b > a + 1]
    return found + ([] if levels.count(1) == 1 else ["not exactly one h1"])
