"""Finds a program, or installs its Debian package, for tests that need what no Python package has."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def find_or_install(find: Callable[[], T | None], package: str, name: str) -> T:
    """What ``find`` finds, after an installation if it is not there yet. Exits and says why where that can't be had.

    ``name``: what the package brings, as people call it.
    """
    program = find()
    if program is None:
        install(package, name)
        program = find()
    if program is None:
        sys.exit(f"{name} was installed, and is nowhere to be found")
    return program


def install(package: str, name: str) -> None:
    """Install a package, as root or by sudo without a password. Exits and says why where that can't be had."""
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
