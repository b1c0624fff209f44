"""Run what docs/ shows, and write down what it prints: `make docs-outputs`.

    python scripts/docs_outputs.py [--check] [howto/tenants | howto | notebooks] …

Each how-to and each notebook asks a sandbox of its own. The program of a how-to and what it prints go into its page,
so that a page is whole wherever it is read; what a notebook prints goes into the notebook. --check writes nothing, and
fails where something else is printed today.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from lunar_core import sandbox

DOCS = Path(__file__).parents[1] / "docs"


def main() -> int:
    """Run all programs. Returns how many print something else than their page shows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("names", nargs="*", help="howto, notebooks, or one of them: howto/tenants")
    options = parser.parse_args()
    names = options.names or ["howto", "notebooks"]
    os.environ["PYTHONPATH"] = str(DOCS.parent)
    texts: dict[Path, str] = {}
    for path in (path for name in names for path in find_sources(name)):
        if path.stem == "tenants" and importlib.util.find_spec("fastapi") is None:
            print(
                f"{path.name} needs FastAPI: it is run in the environment of the ecosystem's tests"
            )
            continue
        with sandbox.run() as service:
            os.environ |= {"LUNAR_API_KEY": service.api_key, "LUNAR_BASE_URL": service.url}
            if path.suffix == ".py":
                texts[path.with_suffix(".md")] = write_howto(path)
            else:
                texts[path] = run_notebook(path)
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        verb = "shows what is not printed" if options.check else "written"
        print(f"{path.relative_to(DOCS.parent)} {verb}")
        if not options.check:
            path.write_text(texts[path], encoding="utf-8")
    return len(changed) if options.check else 0


def find_sources(name: str) -> list[Path]:
    """The programs and notebooks of a folder of docs/, or the one of that name."""
    place = DOCS / name
    paths = place.iterdir() if place.is_dir() else place.parent.glob(f"{place.name}.*")
    return sorted(path for path in paths if path.suffix in {".py", ".ipynb"})


def write_howto(path: Path) -> str:
    """The page of a how-to, with its program and the program's output."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path)], stdout=subprocess.PIPE, check=True, text=True
    )
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    page = with_block(page, "python", path.read_text(encoding="utf-8"))
    return with_block(page, "text", done.stdout)


def with_block(page: str, language: str, text: str) -> str:
    """``page`` with ``text`` in its first block of a language."""
    block = re.compile(rf"^```{language}\n.*?^```$", re.MULTILINE | re.DOTALL)
    return block.sub(lambda _: f"```{language}\n{text}```", page, count=1)


def run_notebook(path: Path) -> str:
    """The notebook with the new output of its cells, without parts that differ from run to run."""
    import nbformat  # of the tests' environment, which the how-to of FastAPI does without
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=100, kernel_name="python3", record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    return f"{nbformat.writes(notebook, indent=1)}\n"


def joined(outputs: list[Any]) -> list[Any]:
    """Outputs with the pieces of a printed text joined, because a kernel cuts it at random places."""
    whole: list[Any] = []
    for output in outputs:
        if whole and output.output_type == whole[-1].output_type == "stream":
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


if __name__ == "__main__":
    sys.exit(main())
