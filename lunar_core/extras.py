"""The command that installs an extra, for error messages about a missing package."""

from __future__ import annotations


def install_command(extra: str) -> str:
    """The commands that install ``extra``: in a checkout, which always works, and from an index that has this project.

    >>> install_command("cli")
    "pip install '.[cli]' in a checkout (from an index that has it: pip install 'lunar-integrations[cli]')"
    """
    return (
        f"pip install '.[{extra}]' in a checkout "
        f"(from an index that has it: pip install 'lunar-integrations[{extra}]')"
    )
