"""The page of a report, in a real browser: whole, readable on a phone, in the dark, in print, and by everybody."""

from __future__ import annotations

import re
import time
from decimal import Decimal

from axe_playwright_python.sync_playwright import Axe

EVERY_CHECK = {"resultTypes": ["violations", "incomplete"]}
LUMINANCES = """() => {
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  const luminance = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(channel)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const paper = luminance(getComputedStyle(document.querySelector('.lunar-report')).backgroundColor)
  const contrast = colour => {
    const [low, high] = [paper, luminance(colour)].sort((a, b) => a - b)
    return (high + 0.05) / (low + 0.05)
  }
  const words = [...document.querySelectorAll('h1, h2, p, dt, dd, th, td, caption')]
  const marks = [...document.querySelectorAll('svg text, svg rect')]
  return {
    words: Math.min(...words.map(each => contrast(getComputedStyle(each).color))),
    charts: Math.min(...marks.map(each => contrast(getComputedStyle(each).fill))),
  }
}"""


def cells(page, caption):
    """The rows of a table, head first."""
    table = page.locator("table", has=page.locator(f"caption:text-is('{caption}')"))
    return [row.locator("th, td").all_inner_texts() for row in table.locator("tr").all()]


def test_an_accessibility_check_finds_nothing(page):
    found = Axe().run(page, options=EVERY_CHECK)
    assert [(each["id"], each["nodes"][0]["html"]) for each in found.response["violations"]] == []


def test_the_check_finds_what_is_wrong(browser):
    page = browser.new_page()
    page.set_content("<html><title>n</title><img src='data:,'><p style='color: #ccc'>pale</p>")
    names = {each["id"] for each in Axe().run(page, options=EVERY_CHECK).response["violations"]}
    assert {"image-alt", "color-contrast", "html-has-lang"} <= names
    page.close()


def test_words_and_charts_stand_out_from_the_paper(page):
    contrast = page.evaluate(LUMINANCES)
    assert contrast["words"] >= 4.5
    assert contrast["charts"] >= 3


def test_nothing_is_wider_than_the_screen_but_tables_that_scroll_by_themselves(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.evaluate(
            "[...document.querySelectorAll('h1, h2, p, dd, svg, .scroll')]"
            ".filter(each => each.getBoundingClientRect().right > innerWidth + 1).length"
        )
        == 0
    )


def test_no_words_of_a_chart_are_cut_off_or_lie_on_each_other(page):
    boxes = page.evaluate(
        "[...document.querySelectorAll('svg')].map(chart => [chart.getBoundingClientRect().right,"
        "[...chart.querySelectorAll('text')].map(each => each.getBoundingClientRect())"
        ".map(box => [box.left, box.right, box.top, box.bottom])])"
    )
    assert sum(len(texts) for _, texts in boxes) > 20
    for edge, texts in boxes:
        assert all(right <= edge + 1 for _, right, _, _ in texts)
        for index, (left, right, top, bottom) in enumerate(texts):
            assert not any(
                left < end and start < right and top < low - 1 and high < bottom - 1
                for start, end, high, low in texts[index + 1 :]
            )


def test_what_is_read_is_the_reports_to_the_last_digit(page, report):
    total = report.total
    first = page.locator("dd").first.inner_text()
    assert first == f"at least ${total.cost:f}, {total.unknown} unknown"
    head, *rows = cells(page, "Cost by model")
    assert head[:3] == ["model", "Cost", "Estimated (service)"]
    amounts = [Decimal(re.search(r"\$([\d.]+)", row[1])[1]) for row in rows]
    assert sum(amounts) == total.cost
    days = cells(page, "Cost by day, part 1 of 2")[1:] + cells(page, "Cost by day, part 2 of 2")[1:]
    assert sum(Decimal(re.search(r"\$([\d.]+)", row[1])[1]) for row in days) == total.cost
    assert len(days) == 31


def test_users_beyond_the_first_are_one_row(page):
    rows = cells(page, "Cost by tag:user")[1:]
    assert (len(rows), rows[-1][0]) == (21, "20 others")


def test_every_section_is_there(page):
    assert page.locator("h2").all_inner_texts() == [
        "Spend by day",
        "By model",
        "By tag:user",
        "By tag:team",
        "By model and tag:user and tag:team",
        "Routing",
        "Latency and first token",
        "Failures",
        "Budgets",
    ]


def test_names_are_words_and_no_markup(page):
    assert page.locator(".lunar-report b").count() == 0
    assert cells(page, "Cost by tag:team")[1][0].startswith("<b>Rüstzeug & Söhne</b> xxx")


def test_every_table_is_reached_and_moved_by_the_keyboard(page):
    tables = page.locator(".scroll").count()
    for _ in range(tables):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "scroll"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    wide = page.locator(".scroll").first
    if wide.evaluate("each => each.scrollWidth > each.clientWidth"):
        wide.focus()
        page.keyboard.press("End")
        page.keyboard.press("ArrowRight")
        until = time.monotonic() + 10
        while not wide.evaluate("each => each.scrollLeft"):  # it glides
            assert time.monotonic() < until


def test_in_print_it_is_dark_on_white_and_nothing_is_cut_off(page):
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 990})  # A4 between its margins
    paper = "getComputedStyle(document.querySelector('.lunar-report'))"
    assert page.evaluate(f"[{paper}.backgroundColor, {paper}.color]") == [
        "rgb(255, 255, 255)",
        "rgb(0, 0, 0)",
    ]
    assert (
        page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1).length"
        )
        == 0
    )
    assert page.pdf(format="A4")[:5] == b"%PDF-"


LINES_OF_WORDS = """() => {
  const lines = (text, from, to) => {
    const range = document.createRange()
    range.setStart(text, from)
    range.setEnd(text, to)
    return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size
  }
  const cells = [...document.querySelectorAll('thead th:not(.name), td:not(.name)')].filter(cell => cell.firstChild)
  return cells.flatMap(cell => [...cell.textContent.matchAll(/[^ ]+/g)]
    .map(word => [word[0], lines(cell.firstChild, word.index, word.index + word[0].length)]))
}"""


def test_no_number_and_no_word_of_a_head_goes_on_in_the_next_line(page):
    for media, width in (("screen", None), ("print", 700)):
        page.emulate_media(media=media)
        if width is not None:
            page.set_viewport_size({"width": width, "height": 990})
        words = page.evaluate(LINES_OF_WORDS)
        assert len(words) > 500
        assert [word for word, lines in words if lines != 1] == []


def test_a_notebook_may_show_two_of_them(browser, report):
    context = browser.new_context()
    page = context.new_page()
    page.set_content(f"<html lang=en><title>n</title><main>{report._repr_html_() * 2}</main>")
    assert page.locator("h1").count() == 2
    ids = [each["id"] for each in Axe().run(page).response["violations"]]
    assert "duplicate-id" not in ids
    assert page.evaluate("document.body.style.length") == 0
    context.close()
