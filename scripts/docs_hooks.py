"""Hooks of MkDocs: make pages of the notebooks, of the command's help and of the sandbox's page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.testing import CliRunner

from lunar_core.cli import PROGRAM
from lunar_core.cli.commands import app

BOOSTS = {"quickstart.md": 20, "howto": 20, "reference": 0.01}
"""The weight of a folder or page in the search, where a title counts a thousand times as much as a text."""
HELP = "<!-- the command's help -->"
SANDBOX = "<!-- the sandbox's own page -->"
NOTEBOOK_LINK = re.compile(r"(\]\([^)\s]*notebooks/[\w-]+)\.ipynb\)")
"""A link that leads to a notebook in a checkout; on the site, to the page that is made of it."""
SANDBOX_PAGE = Path(__file__).parents[1] / "lunar_core/sandbox/README.md"


def on_files(files: Files, config: MkDocsConfig, **_: object) -> Files:
    """Add a page for each notebook."""
    for notebook in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        page = page_of(json.loads(notebook.read_text(encoding="utf-8")), notebook.name)
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the help of each command, and the sandbox's own page without its heading, where a page asks for them.

    A link to a notebook leads to the notebook's page.
    The search answers a question with a how-to or the quickstart rather than with the reference, which has every word.
    """
    folder = page.file.src_uri.partition("/")[0]
    if folder in BOOSTS:
        page.meta["search"] = {"boost": BOOSTS[folder]}
    if HELP in markdown:
        markdown = markdown.replace(HELP, help_of_commands())
    if SANDBOX in markdown:
        _, _, text = SANDBOX_PAGE.read_text(encoding="utf-8").partition("\n\n")
        markdown = markdown.replace(SANDBOX, text)
    return NOTEBOOK_LINK.sub(r"\1.md)", markdown)


def page_of(notebook: dict[str, Any], name: str) -> str:
    """A notebook as a page: its texts, its code, and the output below each piece of code."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(output.get("text", ())) for output in cell["outputs"])
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
    heading, *rest = parts
    note = f"*A notebook: `docs/notebooks/{name}`. What stands below the code was printed by it.*"
    return "\n\n".join([heading, note, *rest])


def help_of_commands() -> str:
    """The output of ``lunar-llm COMMAND --help`` for each command."""
    names = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group's
    pages = []
    for name in names:
        shown = CliRunner().invoke(
            app, [name, "--help"], prog_name=PROGRAM, env={"TERM": "dumb", "COLUMNS": "90"}
        )
        pages.append(f"### {name}\n\n```text\n{shown.output.strip()}\n```")
    return "\n\n".join(pages)
