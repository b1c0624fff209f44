"""scripts/site_check.py sees what a browser would fetch from elsewhere and each link that is dead, and nothing else."""

from __future__ import annotations

import runpy

import pytest

from tests.docs.conftest import ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts/site_check.py"))
CHECK = SCRIPT["foreign_fetches"]


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/x.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/x.css">',
        '<link rel="preconnect" href="https://fonts.example">',
        '<img alt="" src="https://img.example/x.png">',
        "<style>@import 'https://fonts.example/x.css';</style>",
        '<p style="background: url(https://img.example/x.png)">',
    ],
)
def test_a_fetch_from_elsewhere_is_seen(text, tmp_path):
    (tmp_path / "index.html").write_text(f"<html>{text}</html>", encoding="utf-8")
    assert len(list(CHECK(tmp_path))) == 1


def test_so_is_one_in_a_style_or_a_script_of_the_site(tmp_path):
    (tmp_path / "index.html").write_text('<pre class="mermaid"></pre>', encoding="utf-8")
    (tmp_path / "a.css").write_text("@font-face { src: url(https://x.example/a.woff2) }")
    (tmp_path / "a.js").write_text('load("https://unpkg.com/mermaid@11/dist/mermaid.min.js")')
    assert len(list(CHECK(tmp_path))) == 2


def test_links_are_no_fetches_and_what_lies_in_the_site_is_not_foreign(tmp_path):
    (tmp_path / "index.html").write_text(
        '<a href="https://x.example">x</a><link rel="canonical" href="https://x.example">'
        '<script src="a.js"></script><img alt="" src="data:image/png;base64,AA==">',
        encoding="utf-8",
    )
    (tmp_path / "a.js").write_text('load("https://unpkg.com/mermaid@11/dist/mermaid.min.js")')
    assert list(CHECK(tmp_path)) == []


def test_a_relative_link_to_a_file_that_the_site_lacks_is_dead(tmp_path):
    (tmp_path / "index.html").write_text('<a href="notebooks/x.ipynb">x</a>', encoding="utf-8")
    assert list(SCRIPT["dead_links"](tmp_path)) == ["index.html: notebooks/x.ipynb is not there"]


def test_links_to_files_of_the_site_to_places_in_them_and_to_other_hosts_are_not_dead(tmp_path):
    (tmp_path / "howto").mkdir()
    (tmp_path / "howto/index.html").write_text(
        '<a href="../a%20b.html#top">a</a><a href="#here">b</a><a href="..">c</a><a href="/">d</a>'
        '<a href="https://x.example/y">e</a><a href="//x.example">f</a><a href="mailto:x@y.example">g</a>',
        encoding="utf-8",
    )
    (tmp_path / "a b.html").write_text("<a name='no link'>", encoding="utf-8")
    (tmp_path / "index.html").write_text("", encoding="utf-8")
    assert list(SCRIPT["dead_links"](tmp_path)) == []
