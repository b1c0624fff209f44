"""Draw the README's picture anew: docs/demo.svg, what `make demo` prints today, without what it repeats.

    python scripts/picture.py

Needs the vendor's engine (`make engine`), as the demo's table of the trade-off does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs/demo.svg"
COLUMNS = 96
SECTIONS = ("1. ", "4. ")
"""The parts of the demo that are shown."""

SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>What make demo prints</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
"""Like rich's own template, but with the reader's fonts: rich's loads one from another host."""


def demo() -> list[str]:
    """The lines of the demo that the picture shows; ``…`` where some are left out."""
    done = subprocess.run(
        [sys.executable, "examples/01_quickstart.py"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": str(COLUMNS), "PYTHONUTF8": "1"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    lines, is_shown = ["$ make demo"], True
    for line in done.stdout.splitlines():
        if line[:1].isdigit() and line[1:3] == ". ":
            is_shown = line.startswith(SECTIONS)
            lines += [] if is_shown or lines[-2:] == ["…", ""] else ["…", ""]
        if is_shown and not line.startswith("The report of these calls"):
            lines.append(line)
        elif is_shown:
            break
    return [line for line, before in zip(lines, ["", *lines], strict=False) if line or before]


def draw(lines: list[str]) -> str:
    """The picture of some lines in a terminal."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, legacy_windows=False)
        for line in lines:
            is_heading = line.startswith(("$", *SECTIONS))
            console.print(Text(line, style="bold" if is_heading else ""), soft_wrap=True)
        return console.export_svg(title="make demo", code_format=SVG, unique_id="demo")


if __name__ == "__main__":
    PICTURE.write_text(draw(demo()), encoding="utf-8")
