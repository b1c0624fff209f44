"""Installs a Debian package, for tests that need a program that no Python package has."""

from __future__ import annotations

import os
import subprocess
import sys


def install(package: str, name: str) -> None:
    """Install a package, as root or by sudo without a password. Exits and says why where that can't be had.

    ``name``: what the package brings, as people call it.
    """
    as_root = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", package]):
        try:
            subprocess.run(
                [*as_root, *command],
                check=True,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            )
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"{name} is not here and cannot be installed: {error}")
