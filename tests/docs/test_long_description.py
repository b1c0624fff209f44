"""What an index shows of the project: the README, its links led to the repository."""

from __future__ import annotations

import re
import runpy

from tests.docs.conftest import ROOT

ABSOLUTE = runpy.run_path(str(ROOT / "scripts/long_description.py"))["absolute"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_relative_link_leads_to_the_repository_at_its_tag():
    text = ABSOLUTE(README, "https://host.example/lunar", "v1.2.3")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", README))
    assert all(link.startswith("https://") for link in links)
    assert "(https://host.example/lunar/raw/v1.2.3/docs/demo.svg)" in text
    assert "(https://host.example/lunar/blob/v1.2.3/docs/quickstart.md)" in text


def test_nothing_else_is_changed():
    text = ABSOLUTE(README, "https://host.example/lunar", "v1.2.3")
    assert re.sub(r"https://host\.example/lunar/(raw|blob)/v1\.2\.3/", "", text) == README
