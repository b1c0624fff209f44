"""The ``lunar-llm`` command; needs the extra ``cli``. Its commands are in ``lunar_core.cli.commands``."""

from __future__ import annotations

import sys
import warnings

from lunar_core.cli.exit_codes import INTERRUPTED
from lunar_core.errors import LunarCostWarning
from lunar_core.extras import install_command

PROGRAM = "lunar-llm"
"""Not ``lunar``: the vendor's own lunar-cli installs a command of that name."""


def main() -> None:
    """Run the command that the arguments name. What ends it early is told without a traceback."""
    try:
        _run()
    except OSError as error:  # A disk that is full, say. A closed pipe is typer's to handle.
        sys.exit(f"Error: {error}")
    except KeyboardInterrupt:  # while modules were loading
        sys.exit(INTERRUPTED)


def _run() -> None:
    """Run the command, or name the extra that it lacks."""
    try:
        from lunar_core.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"The lunar-llm command needs {error.name}: {install_command('cli')}")
    with warnings.catch_warnings():
        # Each answer's line says of its cost what there is to say.
        warnings.simplefilter("ignore", LunarCostWarning)
        warnings.showwarning = _print_warning
        app(prog_name=PROGRAM)


def _print_warning(message: Warning | str, *_place: object, **_more: object) -> None:
    """Print a warning in one line: the place in our code that Python would add says nothing to a user."""
    print(f"Warning: {message}", file=sys.stderr)  # noqa: T201  # that is what it is for
