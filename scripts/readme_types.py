"""Run pyright over the programs of the README and of docs/, in the mode that their readers' editors have.

    python scripts/readme_types.py [PYTHON]

PYTHON is the interpreter whose packages the programs import: without it, the one that runs this.
Exits with pyright's status. Each block is a file of its own, named for the page and the line where it begins.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)

WITHOUT = (ROOT / "docs/howto/tenants.py").read_text(encoding="utf-8")
"""The one program that needs FastAPI, which is not in the environment of the checks."""


def write(path: Path, text: str) -> None:
    """Write a program, to be checked in the mode of editors."""
    path.write_text(f"# pyright: standard\n{text}", encoding="utf-8")


def main() -> int:
    """Write the blocks to a folder and check it."""
    with tempfile.TemporaryDirectory(dir=ROOT, prefix="readme_types_") as folder:
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
            text = page.read_text(encoding="utf-8")
            for block in FENCED.finditer(text):
                if block[1] != WITHOUT:
                    line = text[: block.start()].count("\n") + 2
                    write(Path(folder, f"{page.stem.replace('-', '_')}_{line}.py"), block[1])
        python = sys.argv[1] if len(sys.argv) > 1 else sys.executable
        pyright = [sys.executable, "-m", "pyright", "--pythonpath", python, folder]
        return subprocess.run(pyright, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
