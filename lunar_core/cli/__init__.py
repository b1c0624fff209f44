"""The ``lunar`` command; needs the extra ``cli``. Its commands are in :mod:`lunar_core.cli.commands`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that the arguments name. A missing extra is named, without a traceback."""
    try:
        from lunar_core.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"The lunar command needs {error.name}: pip install 'lunar-integrations[cli]'")
    try:
        app(prog_name="lunar")
    except OSError as error:  # A disk that is full, say. A closed pipe is typer's to handle.
        sys.exit(f"Error: {error}")
