"""The Makefile's own sentences, where what it needs is not there."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

OLD = """#!/bin/sh
case "$1" in -V) echo "Python 3.9.18" ;; *) exit 1 ;; esac
"""


@pytest.mark.parametrize("target", ["demo", "test"])
def test_a_python_that_is_too_old_is_named(target, tmp_path):
    old = tmp_path / "python3.9"
    old.write_text(OLD, encoding="utf-8")
    old.chmod(0o755)
    folder = tmp_path / "venv"
    arguments = [f"PYTHON={old}", f"VENV={folder}", f"DEMO={folder}"]
    done = subprocess.run(
        ["make", target, *arguments],  # noqa: S607  # whichever make there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"This needs a Python >= 3.10; {old} is Python 3.9.18. Say where one is:" in done.stderr
    assert not folder.exists()


def test_another_set_of_versions_is_checked_by_the_tools_of_the_set_dev():
    planned = subprocess.run(
        ["make", "--dry-run", "check", "SET=lowest", "VENV=.venv-lowest"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert ".venv/bin/ruff check ." in planned
    assert ".venv/bin/mypy --python-executable .venv-lowest/bin/python" in planned
    assert ".venv/bin/pyright --pythonpath .venv-lowest/bin/python" in planned
    assert any(line.startswith(".venv-lowest/bin/python -m pytest ") for line in planned)


def test_the_demos_packages_are_those_that_the_tests_run_with():
    def pins(name):
        lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if line[:1].isalnum()}

    names = {line.partition("==")[0] for line in pins("demo.txt")}
    versions = {line.partition(" ;")[0] for line in pins("demo.txt")}
    assert versions <= {line.partition(" ;")[0] for line in pins("dev.txt")}
    assert names.isdisjoint({"llama-index-core", "numpy", "pytest", "sqlalchemy"})


def test_clean_removes_what_the_ignored_names_say_it_does(tmp_path):
    """The first part of .gitignore says so: "`make clean` removes it"."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").partition("# Keys")[0]
    names = [line.strip("/").replace("*", "x") for line in ignored.splitlines()[1:]]
    assert "site" in names
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)  # noqa: S607
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["Makefile", "examples"]
