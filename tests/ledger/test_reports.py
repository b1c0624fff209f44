"""A report's sums are the ledger's to the last digit, in every form, and no form can be turned against its reader."""

import csv
import io
import json
import re
import sys
from collections import Counter
from decimal import Context, Decimal, Inexact, localcontext
from html.parser import HTMLParser

import pytest
from rich.console import Console

from lunar_core import ConfigurationError, Entry, Ledger
from lunar_core.cost.ledger import Estimate
from lunar_core.cost.report import html_form
from lunar_core.cost.report.periods import MOST_PERIODS, periods_of
from lunar_core.cost.report.times import distribution, percentile

DAY = 86_400
OCTOBER = 1_790_812_800  # 2026-10-01


def ledger_of(*entries):
    ledger = Ledger(keep=1_000_000)
    for number, fields in enumerate(entries):
        ledger.add(
            Entry(**{"call_id": f"call_{number}", "model": "gpt-4o", "at": OCTOBER} | fields)
        )
    return ledger


def estimate(cost="0.5"):
    return Estimate(Decimal(cost), 10, 20, tokens_estimated=False, source="genai-prices 0.2")


BILLED = {"cost": "0.25", "tags": {"user": "u1"}}
UNKNOWN = {"tags": {"user": "u2"}}
ESTIMATED = {"estimate": estimate(), "tags": {"user": "u2"}}


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its tables as rows of texts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.tables, self.words = [], [], []
        self.is_in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in {"td", "th"}:
            self.tables[-1][-1].append("")
            self.is_in_cell = True

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            self.is_in_cell = False

    def handle_data(self, data):
        self.words.append(data)
        if self.is_in_cell:
            self.tables[-1][-1][-1] += data


# Sums


def test_the_rows_add_up_to_the_total_which_is_the_ledgers():
    ledger = ledger_of(
        *({"cost": f"0.{'1' * n}", "tags": {"user": f"u{n % 7}"}} for n in range(1, 60))
    )
    report = ledger.report(by=["tag:user", "day"])
    assert report.total == ledger.total
    assert report.add_up(report.rows).cost == ledger.total_cost
    assert dict(report.rows) == ledger.group("tag:user", "day")


def test_what_cost_most_comes_first_and_no_name_last():
    ledger = ledger_of(BILLED, BILLED | {"tags": {}}, {"cost": "1", "tags": {"user": "u9"}})
    assert [key for key, _ in ledger.report(by=["tag:user"]).rows] == [("u9",), ("u1",), (None,)]


def test_a_view_has_a_report_of_its_own():
    ledger = ledger_of(BILLED, {"cost": "1", "tags": {"user": "u9"}})
    assert ledger.where(tags={"user": "u1"}).report().total.cost == Decimal("0.25")


@pytest.mark.parametrize("form", ["__str__", "to_csv", "to_json", "to_html"])
def test_no_form_rounds_to_the_callers_decimal_context(form):
    cost = Decimal("0.123456789012345678901234567890123")
    ledger = ledger_of(
        {"cost": cost, "saved": cost, "routing": {}, "prompt_tokens": 7, "at": OCTOBER},
        {"cost": 3 * cost, "model": "gpt-4o-mini", "at": OCTOBER + DAY},
        {"estimate": estimate("0.333"), "model": "gpt-4-turbo"},
    )

    def read():
        return re.sub("As of .*", "", getattr(ledger.report(by=["model", "day"]), form)())

    with localcontext(Context(prec=2, traps=[Inexact])):
        text = read()
    assert text == read()
    assert str(cost) in text


def test_calls_that_are_in_the_total_alone_are_told_of():
    ledger = Ledger(keep=1)
    for number in range(3):
        ledger.add(Entry(f"call_{number}", "gpt-4o", cost="1"))
    report = ledger.report()
    assert (report.total.cost, report.dropped) == (3, 2)
    assert "2 older calls are in the total alone." in str(report)
    assert "2 older calls are in the total alone." in report.to_html()


@pytest.mark.parametrize("by", [[], ["nothing"], "model", 5, ["tag:"]])
def test_names_that_are_none_are_refused(by):
    with pytest.raises(ConfigurationError, match=r"^by: "):
        Ledger().report(by=by)


# Text


def test_a_sum_with_unknowns_is_a_lower_bound_and_says_so():
    assert "2 calls, at least $0.25, 1 unknown\n" in str(ledger_of(BILLED, UNKNOWN).report())


def test_estimates_have_a_column_of_their_own_with_their_source():
    report = ledger_of(BILLED, UNKNOWN, ESTIMATED).report(by=["tag:user"])
    head, second, first = str(report).splitlines()[3:6]
    assert head.split("  ")[-1] == "estimated (genai-prices 0.2)"
    assert first.split("  ")[0] == "u2"
    assert "at least $0, 1 unknown  " in first
    assert first.endswith("  $0.5 for 1")
    assert second.split() == ["u1", "1", "0", "0", "$0.25"]


def test_no_control_characters_reach_a_terminal():
    hostile = ledger_of({"cost": "1", "tags": {"a\x1b]0;x\x07": "red\x1b[31m\r\n\x9b2J\u202eback"}})
    report = hostile.report(by=["tag:a\x1b]0;x\x07"])
    terminal = io.StringIO()
    Console(file=terminal, width=200).print(report)
    for text in (str(report), terminal.getvalue()):
        assert "red[31m 2Jback" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def test_nor_does_the_name_of_a_baseline_steer_one():
    report = ledger_of({"routing": {}}).report(baseline="\x1b[31m\n\u202ered\ud800")
    shown = io.StringIO()
    Console(file=shown, width=200, force_terminal=True, color_system=None).print(report)
    for text in (str(report), shown.getvalue(), report.to_html()):
        assert "on [31m red\ufffd, at" in text
        assert not {"\x1b", "\u202e"} & set(text)


def test_rich_prints_the_same_as_a_table():
    terminal = io.StringIO()
    Console(file=terminal, width=200).print(ledger_of(BILLED, UNKNOWN).report(by=["tag:user"]))
    assert "at least $0.25, 1 unknown" in terminal.getvalue()
    assert ["u1", "1", "0", "0", "$0.25"] in map(str.split, terminal.getvalue().splitlines())


def test_many_groups_end_in_others():
    ledger = ledger_of(*({"cost": "0.01", "tags": {"user": f"u{n:04}"}} for n in range(1_000)))
    assert str(ledger.report(by=["tag:user"])).splitlines()[-1].split() == [
        "950", "others", "950", "0", "0", "$9.50",
    ]  # fmt: skip


def test_an_empty_ledger_has_an_empty_report():
    report = Ledger().report(by=["model", "day"])
    assert str(report).startswith("0 calls, $0\n")
    assert report.to_csv().count("\n") == 1
    assert json.loads(report.to_json())["rows"] == []
    assert "By model" in report.to_html()


# CSV and JSON


def test_csv_has_the_names_then_the_figures_with_all_digits():
    ledger = ledger_of(
        BILLED | {"prompt_tokens": 7}, {"cost": "1e-9", "tags": {"user": "u1"}}, ESTIMATED, {}
    )
    rows = list(csv.reader(io.StringIO(ledger.report(by=["model", "tag:user"]).to_csv())))
    assert rows == [
        ["model", "tag:user", "calls", "prompt_tokens", "completion_tokens", "cost", "estimated",
         "saved", "unpriced", "unknown"],
        ["gpt-4o", "u1", "2", "7", "0", "0.250000001", "0", "0", "0", "0"],
        ["gpt-4o", "u2", "1", "0", "0", "0", "0.5", "0", "1", "0"],
        ["gpt-4o", "", "1", "0", "0", "0", "0", "0", "1", "1"],
    ]  # fmt: skip


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_has_no_text_that_a_spreadsheet_would_run(start):
    text = ledger_of({"tags": {"user": f'{start}HYPERLINK("x")'}}).report(by=["tag:user"]).to_csv()
    ((_head, *_), (cell, *_)) = csv.reader(io.StringIO(text, newline=""))
    assert cell == f'\'{start}HYPERLINK("x")'


def test_numbers_of_csv_stay_numbers():
    text = ledger_of({"cost": "0.1"}).report().to_csv()
    assert text.splitlines()[1] == "gpt-4o,1,0,0,0.1,0,0,0,0"


def test_json_has_the_total_and_the_rows_with_the_same_names():
    report = ledger_of(BILLED, {"cost": "1E-12"}, UNKNOWN).report(by=["tag:user", "model"])
    value = json.loads(report.to_json())
    assert value["total"]["cost"] == "0.250000000001"
    assert [row["key"] for row in value["rows"]] == [
        ["u1", "gpt-4o"],
        [None, "gpt-4o"],
        ["u2", "gpt-4o"],
    ]
    names = report.to_csv().splitlines()[0].split(",")[2:]
    assert list(value["total"]) == names
    assert list(value["rows"][0]) == ["key", *names]


@pytest.mark.parametrize("form", ["csv", "json", "html"])
def test_each_form_returns_its_text_and_writes_it_where_a_path_is(form, tmp_path):
    report = ledger_of(BILLED, {"tags": {"user": "a\ud800b\r\nc"}}).report(by=["tag:user"])
    to_form, path = getattr(report, f"to_{form}"), tmp_path / f"report.{form}"
    assert to_form(path) == to_form() == path.read_bytes().decode()


# The page


def rich_ledger():
    return ledger_of(
        BILLED
        | {"endpoint": "router", "latency_ms": 812.4, "ttft_ms": 95.0, "candidates": ("gpt-4o",)},
        UNKNOWN | {"status": "failed", "error": "RateLimitError", "latency_ms": 20.0},
        ESTIMATED | {"saved": None, "at": OCTOBER + 3 * DAY},
    )


def test_the_page_tells_all_there_is_to_tell():
    page = Page(rich_ledger().report(by=["model", "tag:user"]).to_html())
    headings = [
        "Spend by day", "By model", "By tag:user", "By model and tag:user", "Routing",
        "Latency and first token", "Failures",
    ]  # fmt: skip
    assert [word for word in page.words if word in headings] == headings
    assert ["u1", "$0.25"] in [row[:2] for table in page.tables for row in table]
    assert ["failed", "RateLimitError", "1"] in [row for table in page.tables for row in table]


def test_the_page_is_one_file_without_script_or_anything_from_elsewhere():
    page = Page(rich_ledger().report().to_html())
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    )
    policy = [
        a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    for _tag, attributes in page.tags:
        assert attributes.keys().isdisjoint({"src", "href", "srcset", "style", "xlink:href"})
        assert not any(name.startswith("on") for name in attributes)
    text = rich_ledger().report().to_html()
    assert [word for word in ("url(", "@import", "http:", "https:", "//") if word in text] == []


def test_of_costs_that_nobody_knows_there_is_a_table_and_no_chart():
    text = ledger_of(UNKNOWN, ESTIMATED).report(by=["model"]).to_html()
    assert text.count("<svg") == 0
    assert ["gpt-4o", "at least $0, 1 unknown"] in [
        row[:2] for table in Page(text).tables for row in table
    ]


@pytest.mark.parametrize(
    ("name", "label"),
    [("m" * 28, "m" * 28), ("m" * 29, "m" * 27 + "…"), ("料" * 14, "料" * 14), ("料" * 15, "料" * 13 + "…")],
    ids=["fits", "long", "wide", "wide and long"],
)  # fmt: skip
def test_a_charts_names_are_cut_where_a_phone_would_cut_them(name, label):
    text = ledger_of(BILLED | {"tags": {"user": name}}).report(by=["tag:user"]).to_html()
    assert f'<text x="0" y="14">{label}</text>' in text


def test_every_chart_is_an_image_with_a_title_and_every_table_has_a_caption_and_heads():
    text = rich_ledger().report(by=["model", "tag:user"]).to_html()
    charts = re.findall(r"<svg (.*?)>(<title>.*?</title>)?", text)
    assert len(charts) >= 6
    assert all('role="img"' in attributes and title for attributes, title in charts)
    assert text.count("<table>") == text.count("<caption>") == text.count("<thead>")
    assert text.count('<th scope="row"') == text.count('<tr><th scope="row"')


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "\"><b onx='1'>", "{{ 7 * 7 }}", "&amp;<"]
)
def test_names_are_words_on_the_page_wherever_they_stand(hostile):
    ledger = ledger_of(
        {"cost": "1", "tags": {hostile: hostile}, "model": hostile, "endpoint": "router"},
        {"status": "failed", "error": hostile},
    )
    for text in (
        ledger.report(by=[f"tag:{hostile}", "model"]).to_html(),
        ledger.report(by=["model"])._repr_html_(),
    ):
        assert hostile in Page(text).words
        assert {tag for tag, _ in Page(text).tags}.isdisjoint({"script", "b"})
        assert "49" not in Page(text).words


def test_the_page_stays_small_whatever_the_ledgers_size():
    ledger = ledger_of(
        *(
            {
                "cost": f"0.{n:0100}1", "model": f"{n} {'m' * 5_000}", "tags": {"user": f"{n}<&{'ü' * 5_000}"},
                "endpoint": "router", "at": n * 40 * DAY, "latency_ms": 1.7**(n % 40), "ttft_ms": n * 1.0,
            }
            for n in range(1_000)
        ),
        *({"status": "failed", "error": f"{'E' * 500}{n}"} for n in range(100)),
    )  # fmt: skip
    text = ledger.report(by=["model", "tag:user", "month"]).to_html()
    assert len(text.encode()) <= 300_000
    page = Page(text)
    assert max(len(table) for table in page.tables) <= 1 + 20 + 1
    assert "980 others" in page.words


def test_what_each_table_shows_adds_up_to_the_total():
    ledger = ledger_of(
        *(
            {"cost": f"0.{n:03}7", "tags": {"user": f"u{n}"}, "at": OCTOBER + n * DAY}
            for n in range(1, 300)
        )
    )
    page = Page(ledger.report(by=["tag:user"]).to_html())
    spent = Counter()
    for head, *rows in page.tables:
        if "Cost" in head:
            place = head.index("Cost")
            spent[head[0]] += sum(Decimal(row[place].removeprefix("$")) for row in rows)
    assert spent == {"Month": ledger.total_cost, "tag:user": ledger.total_cost}


def test_without_jinja_a_page_says_what_it_needs_and_a_notebook_shows_text(monkeypatch):
    html_form._templates.cache_clear()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    report = ledger_of(BILLED).report()
    with pytest.raises(ConfigurationError, match=r"lunar-integrations\[report\]"):
        report.to_html()
    assert report._repr_html_() is None
    html_form._templates.cache_clear()


# Periods and times


@pytest.mark.parametrize(
    ("hours", "unit", "first", "count"),
    [
        ([0], "hour", "2026-10-01 00:00", 1),
        ([0, 39], "hour", "2026-10-01 00:00", 40),
        (range(31 * 24), "day", "2026-10-01", 31),
        ([5, 200 * 24], "week", "2026-09-28", 30),
        ([0, 1_000 * 24], "month", "2026-10", 33),
    ],
)
def test_spend_over_time_is_by_the_finest_period_of_which_there_are_few(hours, unit, first, count):
    report = ledger_of(*({"cost": "1", "at": OCTOBER + hour * 3_600} for hour in hours)).report()
    found, periods = periods_of(report.figures.hours)
    assert (found, periods[0][0], len(periods)) == (unit, first, count)
    assert sum(sums.cost for _, sums in periods) == len(hours)


def test_the_oldest_months_become_one():
    report = ledger_of(*({"cost": "1", "at": n * 31 * DAY} for n in range(100))).report()
    _unit, periods = periods_of(report.figures.hours)
    assert (periods[0][0], len(periods)) == ("earlier", MOST_PERIODS + 1)
    assert sum(sums.cost for _, sums in periods) == 100


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300, -1e17])
def test_entries_of_no_calendar_are_counted_all_the_same(at):
    report = ledger_of(BILLED, {"cost": "1", "at": at}).report(by=["day"])
    assert report.add_up(report.rows).cost == report.total.cost == Decimal("1.25")
    assert ["time unknown", "$1"] in [
        row[:2] for table in Page(report.to_html()).tables for row in table
    ]


@pytest.mark.parametrize("at", [-62135596800.0, 253402300799.0])
def test_so_are_those_at_the_ends_of_the_calendar(at):
    report = ledger_of(BILLED, {"cost": "1", "at": at}).report()
    _unit, periods = periods_of(report.figures.hours)
    assert sum(sums.cost for _, sums in periods) == Decimal("1.25")


def test_percentiles_are_times_that_calls_took():
    counts = Counter(range(1, 101))
    assert [percentile(counts, share) for share in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert percentile(Counter({7: 1}), 50) == 7
    assert sum(count for _, count in distribution(counts)) == 100


@pytest.mark.parametrize(
    ("count", "share", "time"), [(3, 50, 2), (3, 90, 3), (4, 50, 2), (1, 99, 1)]
)
def test_a_percentile_is_not_exceeded_by_more_than_its_share(count, share, time):
    assert percentile(Counter(range(1, count + 1)), share) == time


def test_a_distribution_of_more_steps_than_fit_counts_the_quickest_together():
    counts = Counter({0: 5, 2: 1, 5: 1, 10**12: 1})
    steps = distribution(counts)
    assert (len(steps), sum(count for _name, count in steps)) == (20, 8)
    assert (steps[0], steps[-1]) == (("up to 5 ms", 7), ("over 5,000 s", 1))


def test_times_that_are_none_are_left_out():
    times = [float("nan"), float("inf"), -1.0, None, 12.6]
    report = ledger_of(*({"latency_ms": time} for time in times)).report()
    assert report.figures.latency == {13: 1}
