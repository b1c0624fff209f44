"""Look whether the built site loads anything from elsewhere, or links to a page that it lacks: `make docs` does.

    python scripts/site_check.py site

Links to other hosts are fine. What a browser fetches by itself (scripts, styles, fonts, pictures, frames) must lie in
the site, and so must what a relative link leads to.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

FETCHED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}
LINKED_ONLY = {"author", "canonical", "edit", "license", "next", "prev"}
"""Kinds of <link> that no browser fetches."""
STYLE_URL = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^'\")\s]+")

DORMANT = {
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js": 'class="mermaid"',
    "https://unpkg.com/resize-observer-polyfill": None,
    "https://api.github.com/repos/": 'data-md-component="source"',
    "https://api.github.com/users/": 'data-md-component="source"',
}
"""Addresses in the theme's script, and what a page needs to trigger the request; None: only a browser of 2019 does."""
SCRIPT_URL = re.compile(r"https://(?:unpkg|api|cdn|fonts)[\w.@/-]+")


class Addresses(HTMLParser):
    """Collects what a page makes a browser fetch from another host, and the relative links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []
        self.links: list[str] = []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        link = urlsplit(values.get("href") or "")
        if tag == "a" and link.path and not link.scheme and not link.netloc:
            self.links.append(unquote(link.path))
        if tag == "link" and set((values.get("rel") or "").split()) <= LINKED_ONLY:
            return
        for name in FETCHED.get(tag, ()):
            if is_foreign(values.get(name) or ""):
                self.foreign.append(f"<{tag} {name}={values[name]}>")
        self.foreign += STYLE_URL.findall(values.get("style") or "")


def is_foreign(address: str) -> bool:
    """Whether an address leads to another host."""
    return address.strip().startswith(("http:", "https:", "//"))


def foreign_fetches(site: Path) -> Iterator[str]:
    """Everything in the site that would be fetched from elsewhere, each with its file."""
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    for path, text in pages.items():
        parser = Addresses()
        parser.feed(text)
        in_styles = re.findall(r"<style.*?</style>", text, re.DOTALL)
        addresses = [*parser.foreign, *STYLE_URL.findall("".join(in_styles))]
        yield from (f"{path.relative_to(site)}: {address}" for address in addresses)
    for path in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        for address in STYLE_URL.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {address}"
    for path in site.rglob("*.js"):
        for address in SCRIPT_URL.findall(path.read_text(encoding="utf-8")):
            wakes = DORMANT.get(address, "")
            if wakes is not None and any(wakes in text for text in pages.values()):
                yield f"{path.relative_to(site)}: {address}"


def dead_links(site: Path) -> Iterator[str]:
    """Every relative link of the site that leads to no file in it, each with its page."""
    for path in site.rglob("*.html"):
        parser = Addresses()
        parser.feed(path.read_text(encoding="utf-8"))
        for link in parser.links:
            # A link from the root, as 404.html has, is resolved there.
            place = site / link.lstrip("/") if link.startswith("/") else path.parent / link
            if not (place / "index.html" if place.is_dir() else place).is_file():
                yield f"{path.relative_to(site)}: {link} is not there"


def main(site: Path) -> int:
    """Print everything that is fetched from another host, and every dead link. Returns how many there are of both."""
    if not (site / "index.html").is_file():
        sys.exit(f"{site} is no built site")
    foreign = list(foreign_fetches(site))
    dead = list(dead_links(site))
    for line in foreign + dead:
        print(line)
    pages = len(list(site.rglob("*.html")))
    print(f"{pages} pages, {len(foreign)} fetches from elsewhere, {len(dead)} dead links.")
    return len(foreign) + len(dead)


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
