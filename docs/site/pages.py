"""Checks built pages: external resources and broken internal links."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
"""The attribute that a browser fetches automatically, by tag."""
ELSEWHERE = re.compile(r"""(?:url\(|@import)[\s'"]*((?:https?:)?//[^'")\s]*)""")
"""External URLs in a style sheet."""


def problems(folder: Path) -> list[str]:
    """Returns the problems of a site, one line each."""
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html"))}
    wrong = [f"{path}: loads {url}" for path, page in pages.items() for url in page.loads if urlsplit(url).netloc]
    for path in sorted(folder.rglob("*.css")):
        wrong += [f"{path}: loads {url}" for url in ELSEWHERE.findall(path.read_text(encoding="utf-8"))]
    for path, page in pages.items():
        for url in page.loads + page.links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                wrong.append(f"{path}: links to {url}, which does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                wrong.append(f"{path}: links to {url}, an anchor that {target.name} lacks")
    return wrong


class Page(HTMLParser):
    """Parses a page: links, loaded resources, and anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = {"top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collects the link, resource and anchors of a tag."""
        values = {name: value for name, value in attrs if value}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if LOADS.get(tag) in values:
            self.loads.append(values[LOADS[tag]])
        elif tag == "a" and values.get("href", "#") != "#":
            self.links.append(values["href"])
