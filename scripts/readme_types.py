"""Run pyright over the python blocks of the README, in the mode that its readers' editors have.

    python scripts/readme_types.py

Exits with pyright's status. Each block is a file of its own, named for the line of the README where it begins.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Write the blocks to a folder and check it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory(dir=ROOT, prefix="readme_types_") as folder:
        for block in FENCED.finditer(readme):
            line = readme[: block.start()].count("\n") + 2
            text = f"# pyright: standard\n{block.group(1)}"
            Path(folder, f"line_{line}.py").write_text(text, encoding="utf-8")
        pyright = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, folder]
        return subprocess.run(pyright, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
