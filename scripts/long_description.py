"""Make the README's links lead to a repository, for where it is shown without one: an index of packages.

    python scripts/long_description.py https://host.example/owner/name v1.2.3

The release does this before it builds. Nothing is committed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?P<path>(?!#)[^):]+)\)")


def absolute(text: str, repository: str, tag: str) -> str:
    """``text`` with its relative links made absolute, to ``repository`` at ``tag``: to pages, or to raw pictures."""

    def lead(link: re.Match[str]) -> str:
        kind = "raw" if link["mark"] else "blob"
        return f"{link['mark']}[{link['text']}]({repository}/{kind}/{tag}/{link['path']})"

    return LINK.sub(lead, text)


if __name__ == "__main__":
    README.write_text(
        absolute(README.read_text(encoding="utf-8"), *sys.argv[1:3]), encoding="utf-8"
    )
