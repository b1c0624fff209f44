"""Every example runs as its reader runs it, prints what its text promises, and counts what the sandbox billed."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("[0-9]*.py"))
TOUR = (EXAMPLES / "README.md").read_text(encoding="utf-8")
SECTIONS = dict(
    re.findall(r"^### \[(.+?)\]\(\1\)\n(.*?)(?=^##|\Z)", TOUR, re.MULTILINE | re.DOTALL)
)
ENGINE = importlib.util.find_spec("opentracy") is not None


def run(name: str) -> subprocess.CompletedProcess[str]:
    """The example in a process and an environment of its own, as a stranger starts it."""
    return subprocess.run(
        [sys.executable, f"examples/{name}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "120", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )


@pytest.fixture(scope="module")
def runs():
    """All examples, two at a time: most of the time goes into imports."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, name) for name in NAMES}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def printed(runs):
    return lambda name: runs[name].result().stdout


def amounts(text: str) -> list[Decimal]:
    return [Decimal(amount) for amount in re.findall(r"([\d.]+) USD", text)]


def billed(text: str) -> Decimal:
    """What the sandbox says it billed, but for answers that were left before they told their cost."""
    total, _, untold = text.partition("The sandbox billed ")[2].partition("\n")
    return amounts(total)[0] - sum(amounts(untold))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_offline_and_ends_with_the_bill(name, runs):
    done = runs[name].result()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"\nThe sandbox billed [\d.]+ USD for \d+ answers\.\n", done.stdout)


# The tour


def test_the_tour_shows_every_example_in_order():
    assert list(SECTIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_tour_shows_what_the_example_prints(name, printed):
    # Of tools that run side by side, whichever is quicker comes first: the tour leaves them out.
    if name.startswith("01") and not ENGINE:
        pytest.skip("the tour shows the engine's routes: needs the opentracy wheel")
    command, _, shown = SECTIONS[name].partition("```console\n")[2].partition("\n")
    assert command == f"$ python examples/{name}"
    parts = timeless(shown.rstrip().removesuffix("```")).split("…\n")
    left_out = "(?:.*\n)+?"
    assert re.fullmatch(left_out.join(map(re.escape, parts)), timeless(printed(name)))


def timeless(text: str) -> str:
    """Without the milliseconds, which differ from run to run."""
    return re.sub(r"\d+(?= ms)", "#", text)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_says_how_it_is_run(name):
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert (
        "    make demo " in text
        if name.startswith("01")
        else f"    python examples/{name} " in text
    )
    assert f"    LUNAR_API_KEY=… python examples/{name} --live " in text


# What each promises


@pytest.fixture
def demo(printed):
    """What the demo prints: its four parts, each under its heading."""
    return re.split(r"^\d\. .+\n-+\n", printed("01_quickstart.py"), flags=re.MULTILINE)


def test_the_demo_says_first_what_is_real(demo):
    routes = "the vendor's engine, opentracy" if ENGINE else "made up, as no wheel of the engine"
    assert demo[0].startswith(f"Routes: {routes}")
    assert "Answers: scripted, the same from every model. Bills: made up." in demo[0]


def test_the_demo_shows_the_trade_off_as_the_profiles_have_it(demo):
    rows = re.findall(r"^ *(always gpt-4o|\S+) +(\S+)% +(\d+)% █", demo[1], re.MULTILINE)
    names, _accuracy, costs = zip(*rows, strict=True)
    assert names == ("always gpt-4o", "0", "0.000001", "20", "40", "80")
    assert [int(cost) for cost in costs[1:]] == sorted(map(int, costs[1:]), reverse=True)
    if ENGINE:  # the profiles of 0.4.1, as counted by hand
        assert rows[0] == ("always gpt-4o", "78.8", "100")
        assert rows[2] == ("0.000001", "83.6", "45")
        assert rows[5] == ("80", "78.0", "7")
        assert "In sample, 500 exam questions, ten models of 2024" in demo[1]
    else:
        assert "made up: nobody measured this" in demo[1]


def test_the_demo_shows_topics_that_were_measured_and_one_that_was_not(demo):
    if not ENGINE:
        assert demo[2].count("made up; next") == 6
        return
    counts = [int(count) for count in re.findall(r", (\d+) questions like this; next", demo[2])]
    assert len(counts) == 5
    assert min(counts) >= 8
    assert demo[2].count("no question like this, so by its overall error") == 1
    assert len(set(re.findall(r"^  (\S+):", demo[2], re.MULTILINE))) >= 3
    assert "confidence" not in demo[2]


def test_the_demo_streams_an_answer_whose_bill_is_the_handlers_total(demo):
    bill, total = amounts(demo[3])
    assert bill == total > 0


def test_the_demo_tells_what_was_saved_to_the_last_digit(demo, printed):
    rows = re.findall(r" (\d\.\d{8}) +(\d\.\d{8})$", demo[4], re.MULTILINE)
    assert len(rows) == 7
    *costs, (routed, alone) = rows
    assert sum(Decimal(cost) for cost, _ in costs) == Decimal(routed)
    assert sum(Decimal(cost) for _, cost in costs) == Decimal(alone)
    saved, bill = amounts(demo[4])
    assert saved == Decimal(alone) - Decimal(routed) > 0
    assert bill == billed(printed("01_quickstart.py"))
    assert bill == Decimal(alone) + Decimal(routed) + amounts(demo[3])[0]
    assert "Whether the answers are as good, this does not show." in demo[4]
    assert max(len(line) for line in demo[4].splitlines() if "gpt-4o" in line) <= 80


def test_the_demo_writes_its_report_beside_itself(demo):
    path = Path(re.search(r"for a browser:\n  (.+)", demo[4])[1])
    assert path == EXAMPLES / "01_report.html"
    assert "gpt-4o-mini" in path.read_text(encoding="utf-8")


def test_a_key_in_the_environment_is_never_used_unasked(monkeypatch, lunar_sandbox_factory, capsys):
    hosted = lunar_sandbox_factory()
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["01_quickstart.py"])
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_of_somebody")
    monkeypatch.setenv("LUNAR_BASE_URL", hosted.url)
    runpy.run_path(str(EXAMPLES / "01_quickstart.py"), run_name="__main__")
    assert hosted.requests() == []
    assert "pk_live" not in capsys.readouterr().out


def test_live_the_demo_says_first_that_it_costs(live):
    first, *_ = live("01_quickstart.py", "documented").splitlines()
    assert first == ("The hosted service gives 13 answers of 160 tokens at most: that costs money.")


def test_live_the_demo_shows_nothing_that_was_made_up(live, monkeypatch):
    monkeypatch.setitem(sys.modules, "opentracy", None)  # as where its wheel is not installed
    told = live("01_quickstart.py", "documented")
    assert "made up" not in told
    assert "Unknown here: the router's profiles come with the package of its engine" in told
    assert len(re.findall(r"^  \S+: error 0\.\d\d$", told, re.MULTILINE)) == 6


def test_answers_come_from_a_server_of_yours_where_one_is_named(
    monkeypatch, lunar_sandbox_factory, capsys
):
    upstream = lunar_sandbox_factory()
    monkeypatch.setenv("LUNAR_SANDBOX_UPSTREAM_KEY", "upstream.key.x")
    url = f"{upstream.url}/v1"
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["01_quickstart.py", "--upstream", url])
    runpy.run_path(str(EXAMPLES / "01_quickstart.py"), run_name="__main__")
    assert "Answers: a server of yours. Bills: made up." in capsys.readouterr().out
    assert len(upstream.billed(at_least=13)) == 13


def test_a_chain_tells_its_parts_of_the_cost_and_the_whole(printed):
    told = printed("02_chain.py")
    read, written, whole, both_steps, _ = amounts(told)
    assert read + written == whole
    assert whole + both_steps == billed(told)
    assert "2 calls" in told


def test_a_stream_that_is_left_is_not_written_to_its_end(printed):
    told = printed("03_streaming.py")
    *_, untold = amounts(told)
    words = Decimal("0.00001")  # USD for one of gpt-4o's
    assert 0 < untold < 400 * words
    assert "the answer goes on until it has … enough." in told


def test_an_agent_on_the_routed_model_tells_its_cost_per_node(printed):
    told = printed("04_agent.py")
    assert "calls get_weather({'city': 'Lisbon'})" in told
    assert "calls suggest_sights({'city': 'Lisbon'})" in told
    nodes = re.findall(r"^(model|tools|total) +\d+ +\d+ +([\d.]+)$", told, re.MULTILINE)
    cost = {node: Decimal(amount) for node, amount in nodes}
    assert 0 < cost["tools"] < cost["model"]
    assert cost["model"] + cost["tools"] == cost["total"] == billed(told)
    steps = re.findall(r"^\[model\] [\w.-]+, ([\d.]+) USD$", told, re.MULTILINE)
    assert sum(map(Decimal, steps)) == cost["model"]


def test_objects_come_out_of_texts_on_the_routed_model(printed):
    told = printed("05_structured_output.py")
    assert told.count("Booking(name='Ada Lovelace', guests=4, date='2026-12-10')\n") == 2
    assert "Booking(name='Grace Hopper', guests=2, date='2026-12-24')\n" in told
    assert "{'origin': 'Lisbon'}\n{'origin': 'Lisbon', 'destination': 'Porto'}\n" in told


def test_decisions_alone_bill_nothing_and_heed_the_weight_of_cost(printed):
    told = printed("06_router_chain.py")
    chosen = [
        re.findall(r"^  (\S+) +0\.\d\d  ", part, re.MULTILINE)
        for part in told.split("cost_weight=")
    ]
    assert [len(models) for models in chosen] == [0, 4, 4, 4]
    assert chosen[1] != chosen[2] != chosen[3]
    assert "  gpt-4o: error=0.1600 + cost=0.0000 = 0.1600  <- selected\n" in told
    assert "gpt-4o stood in, since: BadRequestError" in told
    # Two answers: twelve decisions for the tables, one for its reasons and one that failed cost nothing.
    assert "for 2 answers." in told


def test_candidates_answer_as_lunar_decides_and_their_price_stays_unknown(printed):
    told = printed("07_candidates.py")
    answers = re.findall(r"^  (\S+): An answer of (\S+)'s own\.$", told, re.MULTILINE)
    assert len({model for model, _ in answers}) == 2
    assert all(decided == answered for decided, answered in answers)
    assert "The sandbox billed 0 USD for 0 answers." in told


def test_many_at_once_tell_the_cost_of_each_and_lose_nothing_to_a_failure(printed):
    told = printed("08_async_fan_out.py")
    *each, together, bill = amounts(told)
    assert len(each) == 7
    assert sum(each) == together == bill
    assert "[]: ConfigurationError: messages: " in told


def test_what_was_spent_is_told_by_user_node_and_run_and_unknown_is_not_zero(printed):
    told = printed("09_cost_callbacks.py")

    def group(title):
        table = re.search(rf"^by {title} .*\n((?:  .+\n)+)", told, re.MULTILINE)[1]
        return {name: Decimal(cost) for name, *_, cost in map(str.split, table.splitlines())}

    users, nodes, tasks = map(group, ("user", "node", "run"))
    assert (set(users), set(nodes)) == ({"ada", "grace"}, {"draft", "shorten"})
    assert sum(nodes.values()) == sum(tasks.values())
    cached, saved, left, together, *_ = amounts(told)
    assert saved == 2 * cached
    assert left == 0
    assert told.count(" USD and 1 unpriced") == 2
    assert sum(users.values()) + sum(nodes.values()) + cached == together == billed(told)


def test_a_query_engine_tells_the_cost_of_each_query(printed):
    told = printed("20_query_engine.py")
    for planet in ("Mars", "Venus", "Jupiter"):
        assert re.search(rf"^.*{planet}.*\?\n  from: .*{planet}", told, re.MULTILINE)
    *each, total, bill = amounts(told)
    assert len(each) == 3
    assert sum(each) == total == bill


def test_an_agents_steps_are_routed_and_add_up_to_the_bill(printed):
    told = printed("21_agent.py")
    assert "get_weather({'city': 'Paris'}) -> 18 °C and rain in Paris" in told
    assert "get_population({'city': 'Paris'}) -> Paris has 2.1 million inhabitants" in told
    assert told.count("  Topic 'general' (no topic's words); cost_weight 0.000001.\n") == 2
    *steps, total, bill = amounts(told)
    assert len(steps) == 2
    assert sum(steps) == total == bill


def test_a_chat_engine_streams_and_stays_with_its_model(printed):
    told = printed("22_chat_engine.py")
    models = re.findall(r"^  (\S+): [\d.]+ USD", told, re.MULTILINE)
    assert (len(models), len(set(models))) == (3, 1)
    assert "6 messages are remembered." in told
    *each, bill = amounts(told)
    assert sum(each) == bill


def test_bookings_are_extracted_whole_and_in_streams(printed):
    told = printed("23_extraction.py")
    assert "Booking(name='Ada Lovelace', guests=4, date='2026-12-10')" in told
    assert "{'name': 'Grace Hopper', 'guests': 2, 'date': '2026-12-24'}" in told
    assert "\nTrue\n" in told


def test_each_tenant_gets_its_own_bill(printed):
    told = printed("24_cost_per_tenant.py")
    tenants = re.findall(r"^(acme|globex) +(\d) +([\d.]+) +(\d)$", told, re.MULTILINE)
    assert [(name, calls, unpriced) for name, calls, _, unpriced in tenants] == [
        ("acme", "3", "1"),
        ("globex", "2", "1"),
    ]
    together, *_ = amounts(told)
    assert sum(Decimal(cost) for _, _, cost, _ in tenants) == together == billed(told)


def test_a_report_adds_up_to_the_bill_and_tells_what_routing_saved(printed):
    output = printed("33_report.py")
    costs = re.findall(r"^(?:ada|grace) .*\$([\d.]+)$", output, re.MULTILINE)
    assert sum(map(Decimal, costs)) == billed(output)
    saved, actual, baseline = re.search(
        r"saved \$([\d.]+): 5 routed calls for \$([\d.]+) in place of \$([\d.]+)\.", output
    ).groups()
    assert Decimal(baseline) - Decimal(actual) == Decimal(saved)


def test_a_months_costs_and_the_next_ones_add_up_to_the_bill(printed):
    output = printed("34_costs_by_month.py")
    october, november, bill = amounts(output)
    assert october + november == bill
    lines = re.findall(r"^\w+,gpt-4o(?:-mini)?,\d+,\d+,\d+,([\d.]+),", output, re.MULTILINE)
    assert sum(map(Decimal, lines)) == october
    assert "The page shows the same sum: True" in output


def test_a_batch_is_stopped_by_its_budget_and_goes_on_where_it_was(printed):
    output = printed("35_batch.py")
    answered, unsent = map(
        int, re.search(r"budget: (\d+) of 60 answered, (\d+) unsent", output).groups()
    )
    assert 0 < answered < 60
    assert answered + unsent == 60
    assert "Each of the 60 once: True" in output


# On the hosted service


@pytest.fixture
def live(monkeypatch, capsys, lunar_sandbox_factory):
    """Run an example with --live against a sandbox of a dialect, in the place of the service: what it prints."""

    def run_live(name, dialect):
        hosted = lunar_sandbox_factory(dialect=dialect)
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setattr(sys, "argv", [name, "--live"])
        monkeypatch.setenv("LUNAR_API_KEY", hosted.api_key)
        monkeypatch.setenv("LUNAR_BASE_URL", hosted.url)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        assert hosted.requests()
        return capsys.readouterr().out

    return run_live


@pytest.mark.parametrize("dialect", ["documented", "observed"])
@pytest.mark.parametrize("name", NAMES)
# What a user of the backend sees; and LlamaIndex's workflows, by pydantic.
@pytest.mark.filterwarnings("ignore::lunar_core.LunarCostWarning")
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
def test_live_an_example_ends_well_on_both_dialects(name, dialect, live):
    told = live(name, dialect)
    assert told.strip()
    assert "sandbox" not in told
    assert not re.search(r"\b0 USD$", told, re.MULTILINE)  # unknown is not 0


@pytest.mark.parametrize("name", ["03_streaming.py", "22_chat_engine.py"])
@pytest.mark.filterwarnings("ignore::lunar_core.LunarCostWarning")
def test_live_an_example_takes_a_bill_that_is_not_stated(name, live):
    # The backend as it was seen states no usage in streams.
    assert "unknown USD" in live(name, "observed")
    assert "unknown USD" not in live(name, "documented")


def test_live_bookings_are_extracted_where_tools_are_ignored(live):
    told = live("23_extraction.py", "observed")
    assert told.startswith("Booking(name='Ada Lovelace', guests=4, date='2026-12-10')\n")


def test_live_an_example_without_a_key_says_what_it_needs(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["02_chain.py", "--live"])
    with pytest.raises(SystemExit, match="--live needs LUNAR_API_KEY"):
        runpy.run_path(str(EXAMPLES / "02_chain.py"), run_name="__main__")
