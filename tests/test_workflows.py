"""What nobody here can run (GitHub's workflows, the hooks, the devcontainer) runs commands that are there.

`make lint` holds the workflows and the forms of issues to their schemas. What they do elsewhere shows there alone.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted((ROOT / ".github/workflows").glob("*.yml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / ".devcontainer/devcontainer.json",
]
MAKE = re.compile(r"\bmake ([a-z./-]+)")
MATRIX = re.compile(r"\$\{\{.*?\}\}")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_what_it_makes_is_a_target_of_the_makefile(file):
    text = file.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("#", "//"))]
    targets = {target for line in lines for target in MAKE.findall(line)}
    assert targets
    for target in targets:
        done = subprocess.run(
            ["make", "--dry-run", target],  # noqa: S607  # whichever make there is
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_the_scripts_and_folders_that_it_names_are_there(file):
    text = MATRIX.sub("", file.read_text(encoding="utf-8"))
    named = re.findall(r"(?<![\w/.-])((?:scripts|tests|lunar_core|\.ci)/[\w./-]+\w)", text)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_groups_that_it_installs_are_in_the_project():
    text = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    groups = set(re.findall(r"--group (\w+)", text))
    assert groups
    assert groups <= set(re.findall(r"^(\w+) = \[", project, re.MULTILINE))


def test_the_devcontainer_is_json_with_comments():
    text = (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
    fields = json.loads(re.sub(r"^//.*$", "", text, flags=re.MULTILINE))
    assert {"name", "image", "postCreateCommand"} <= fields.keys()
