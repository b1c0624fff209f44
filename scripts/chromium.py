"""Run a command that needs a browser: Chromium, whose path the command finds in TEST_CHROMIUM.

    python scripts/chromium.py pytest tests/browser

The browser comes from Debian's package, which is installed if it is not there (as root, or by sudo without a
password). Where that can't be had, this fails and says so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import debian


def find_program() -> str | None:
    """The browser, if it is here."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def install_program() -> str:
    """Install Debian's package."""
    debian.install("chromium", "Chromium")
    program = find_program()
    if program is None:
        sys.exit("Chromium was installed, and is nowhere to be found")
    return program


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    environment = {**os.environ, "TEST_CHROMIUM": find_program() or install_program()}
    sys.exit(subprocess.run(sys.argv[1:], check=False, env=environment).returncode)
