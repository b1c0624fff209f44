"""How an optional part is installed: the words that end each "needs …" of these packages."""

from __future__ import annotations


def install_command(extra: str) -> str:
    """The commands that install ``extra``: from an index that has this project, and from a checkout.

    >>> install_command("cli")
    "pip install 'lunar-integrations[cli]' (from a checkout: pip install '.[cli]')"
    """
    return f"pip install 'lunar-integrations[{extra}]' (from a checkout: pip install '.[{extra}]')"
