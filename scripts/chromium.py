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


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    program = debian.find_or_install(find_program, "chromium", "Chromium")
    environment = {**os.environ, "TEST_CHROMIUM": program}
    sys.exit(subprocess.run(sys.argv[1:], check=False, env=environment).returncode)
