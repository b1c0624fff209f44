"""Write anew what examples/README.md shows of each example: what it prints today, where that has changed.

    python scripts/tour.py

A line of ``…`` in the tour stands for lines that differ from run to run: such sections are left as they are, and named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"
TOUR = EXAMPLES / "README.md"


def main() -> None:
    """Run every example, and write its output into the tour."""
    text = TOUR.read_text(encoding="utf-8")
    for path in sorted(EXAMPLES.glob("[0-9]*.py")):
        command = f"```console\n$ python examples/{path.name}\n"
        start = text.index(command) + len(command)
        end = text.index("```", start)
        shown, printed = text[start:end], run(path)
        if matches(shown, printed):
            continue
        if "…\n" in shown:
            print(f"{path.name}: look at it by hand, it leaves lines out")
            continue
        print(f"{path.name}: written anew")
        text = text[:start] + printed + text[end:]
    TOUR.write_text(text, encoding="utf-8")


def run(path: Path) -> str:
    """The output of an example, run in an environment of its own."""
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=EXAMPLES.parent,
        env={"PATH": os.environ["PATH"], "COLUMNS": "120", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.rstrip() + "\n"


def matches(shown: str, printed: str) -> bool:
    """Whether ``shown`` matches the output: each ``…`` stands for some lines that are left out."""
    parts = timeless(shown).split("…\n")
    return re.fullmatch("(?:.*\n)+?".join(map(re.escape, parts)), timeless(printed)) is not None


def timeless(text: str) -> str:
    """``text`` without milliseconds, which differ from run to run."""
    return re.sub(r"\d+(?= ms)", "#", text)


if __name__ == "__main__":
    main()
