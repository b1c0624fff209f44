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


def find_program() -> str | None:
    """The browser, if it is here."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def install() -> str:
    """Install Debian's package."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "chromium"]):
        try:
            subprocess.run(
                [*as_root, *command],
                check=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"Chromium is not here and cannot be installed: {error}")
    program = find_program()
    if program is None:
        sys.exit("Chromium was installed, and is nowhere to be found")
    return program


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    environment = {**os.environ, "TEST_CHROMIUM": find_program() or install()}
    sys.exit(subprocess.run(sys.argv[1:], check=False, env=environment).returncode)
