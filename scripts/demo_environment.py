"""Makes the demo's own virtual environment: what it needs and no more, with a line for each step.

    python scripts/demo_environment.py .venv-demo opentracy==0.4.1

Needs nothing but the standard library. Installs with ``uv`` where it is there and works, else with pip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[1] / "requirements" / "demo.txt"
Installer = Callable[[Sequence[str]], bool]


def main(folder: Path, engine: str) -> None:
    """Make the environment, and print how long it took and its size."""
    start = time.monotonic()
    install, tool = make_environment(folder)
    version = ".".join(map(str, sys.version_info[:3]))
    say(1, f"An environment of its own in {folder}: Python {version}, {tool}.", start)
    # The list is whole, so nobody need work out what needs what.
    if not install(["--no-deps", "--requirement", str(REQUIREMENTS)]):
        sys.exit(f"The demo's packages cannot be installed: see above, and {REQUIREMENTS}.")
    say(2, f"LangChain's core and the sandbox: {count_requirements()} packages.", start)
    # Without its dependencies: the engine is one binary, and its Python code is never imported.
    if install(["--no-deps", "--only-binary", ":all:", engine]):
        say(3, f"The vendor's routing engine: {engine}.", start)
    else:
        say(3, f"No wheel of the vendor's routing engine ({engine}) for this machine.", start)
    say(4, f"Ready: {megabytes(folder):.0f} MB. `make clean` removes it.", start)


def make_environment(folder: Path) -> tuple[Installer, str]:
    """Make an empty environment; returns what installs into it, and its name."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    venv.create(folder, clear=True, symlinks=sys.platform != "win32")
    uv = shutil.which("uv")
    if uv is not None:
        with_uv = [uv, "pip", "install", "--quiet", "--python", str(python)]
        if run(
            [*with_uv, "--dry-run", "--no-deps", "--requirement", str(REQUIREMENTS)], quiet=True
        ):
            return lambda arguments: run([*with_uv, *arguments]), "uv"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    if not run([*pip, "--version"], quiet=True):  # none, or one of before 22.3
        venv.create(folder, clear=True, symlinks=sys.platform != "win32", with_pip=True)
        pip = [str(python), "-m", "pip"]
    # What is never imported need not be compiled; Python does so for the rest as it goes.
    with_pip = [*pip, "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
    return lambda arguments: run([*with_pip, *arguments]), "pip"


def run(command: Sequence[str], *, quiet: bool = False) -> bool:
    """Whether a command ends well. Its output goes to stderr."""
    output = subprocess.DEVNULL if quiet else sys.stderr
    return subprocess.run(command, stdout=output, stderr=output, check=False).returncode == 0


def count_requirements() -> int:
    """The number of required packages. A package may be listed several times, for different versions of Python."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return len({line.partition("==")[0] for line in lines if line[:1].isalnum()})


def megabytes(folder: Path) -> float:
    """The size of all files in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def say(step: int, text: str, start: float) -> None:
    print(f"[{step}/4] {text} ({time.monotonic() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
