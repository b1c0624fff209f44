"""The README's picture shows what the demo prints today, and loads nothing."""

from __future__ import annotations

import html
import importlib.util
import re
import runpy

import pytest

from tests.docs.conftest import ROOT

SVG = (ROOT / "docs/demo.svg").read_text(encoding="utf-8")


def test_the_picture_shows_what_the_demo_prints():
    if importlib.util.find_spec("opentracy") is None:
        pytest.skip("the picture shows the engine's routes: needs the opentracy wheel")
    picture = runpy.run_path(str(ROOT / "scripts/picture.py"))
    lines = picture["demo"]()
    assert len(lines) > 20
    assert max(map(len, lines)) <= picture["COLUMNS"]  # what is wider would be cut off
    assert words(picture["draw"](lines)) == words(SVG)


def words(svg):
    return [html.unescape(text) for text in re.findall(r"<text [^>]*>(.*?)</text>", svg)]


def test_the_picture_loads_nothing():
    assert re.findall(r"(?:href|src|url)\b[^>]{0,5}(?:https?:)?//", SVG) == []
    assert "<script" not in SVG
    assert "@font-face" not in SVG
