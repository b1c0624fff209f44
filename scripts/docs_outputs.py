"""Run what docs/ shows, and write down what it prints: `make docs-outputs`.

    python scripts/docs_outputs.py [--check] [howto] [notebooks]

Each how-to and each notebook asks a sandbox of its own. What a how-to prints goes into the .txt beside it, what a
notebook prints into the notebook. --check writes nothing, and fails where something else is printed today.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from lunar_core import sandbox

DOCS = Path(__file__).parents[1] / "docs"


def main() -> int:
    """Run all; how many print something else than is written down."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("folders", nargs="*", help="of docs/: howto, notebooks, or both")
    options = parser.parse_args()
    is_check, folders = options.check, options.folders or ["howto", "notebooks"]
    os.environ["PYTHONPATH"] = str(DOCS.parent)
    texts: dict[Path, str] = {}
    shown = (path for folder in folders for path in sorted((DOCS / folder).iterdir()))
    for path in (path for path in shown if path.suffix in {".py", ".ipynb"}):
        if path.name == "tenants.py" and importlib.util.find_spec("fastapi") is None:
            print(f"{path.name} needs FastAPI: left as it is")
            continue
        with sandbox.run() as service:
            os.environ |= {"LUNAR_API_KEY": service.api_key, "LUNAR_BASE_URL": service.url}
            if path.suffix == ".py":
                texts[path.with_suffix(".txt")] = print_howto(path)
            else:
                texts[path] = run_notebook(path)
    changed = [path for path, text in texts.items() if read(path) != text]
    for path in changed:
        print(
            f"{path.relative_to(DOCS.parent)} {'shows what is not printed' if is_check else 'written'}"
        )
        if not is_check:
            path.write_text(texts[path], encoding="utf-8")
    return len(changed) if is_check else 0


def read(path: Path) -> str | None:
    """What is written down."""
    return path.read_text(encoding="utf-8") if path.exists() else None


def print_howto(path: Path) -> str:
    """What a how-to prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)], stdout=subprocess.PIPE, check=True, text=True
    )
    return done.stdout


def run_notebook(path: Path) -> str:
    """The notebook with what its cells print today, and nothing that differs from run to run."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=100, kernel_name="python3", record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return f"{nbformat.writes(notebook, indent=1)}\n"


def joined(outputs: list[Any]) -> list[Any]:
    """Outputs with the pieces of a printed text put together: where a kernel cuts it is chance."""
    whole: list[Any] = []
    for output in outputs:
        if whole and output.output_type == whole[-1].output_type == "stream":
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


if __name__ == "__main__":
    sys.exit(main())
