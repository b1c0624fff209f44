"""`lunar-llm models`: windows and prices, and what of them is no word of the service's."""

import json
import re
import sys

import pytest

from tests.faults import FaultServer
from tests.faults_steps import reply

GPT_4O = {"id": "gpt-4o", "owned_by": "openai"}


def cells_of(out, model):
    return next(line.split("\t") for line in out.splitlines() if line.startswith(f"{model}\t"))


@pytest.fixture
def service():
    """One that lists models, and prices where a test says so."""
    with FaultServer() as server:
        server.models_list, server.prices_list = [GPT_4O], None

        def answer(request):
            if request.path == "/v1/models":
                return reply(json={"data": server.models_list})
            if server.prices_list is not None:
                return reply(json=server.prices_list)
            return reply(404, json={"detail": "Not Found"})

        server.decide(answer)
        yield server


def test_programs_get_a_line_for_each_below_a_head(lunar):
    code, out, _err = lunar("models")
    assert code == 0
    assert cells_of(out, "gpt-4o-mini") == [
        "gpt-4o-mini",
        "openai",
        "0.15",
        "0.075",
        "0.6",
        "~128000",
    ]


def test_prices_that_the_list_of_models_states_are_the_services(lunar, service):
    service.models_list = [{**GPT_4O, "input_per_million": 3, "output_per_million": 11}]
    _code, out, err = lunar("models", "--base-url", service.origin)
    assert cells_of(out, "gpt-4o")[2:5] == ["3", "", "11"]
    assert "prices are estimates" not in err
    assert [request.path for request in service.requests] == ["/v1/models"]


def test_else_those_of_its_list_of_prices_are(lunar, service):
    service.prices_list = [{"id": "gpt-4o", "input_per_million": 4, "output_per_million": 12}]
    assert cells_of(lunar("models", "--base-url", service.origin)[1], "gpt-4o")[2:5] == [
        "4",
        "",
        "12",
    ]


def test_else_they_are_estimates_marked_and_dated(lunar, service):
    _code, out, err = lunar("models", "--base-url", service.origin)
    assert cells_of(out, "gpt-4o")[2:5] == ["~2.5", "~1.25", "~10"]
    (note,) = [line for line in err.splitlines() if "prices" in line]
    assert re.fullmatch(
        r"~ prices are estimates, by the list of genai-prices \S+, whose newest price is of \d{4}-\d\d-\d\d",
        note,
    )


def test_windows_are_marked_and_dated(lunar):
    assert re.search(r"^~ windows: .* as of 2\d{3}-\d\d-\d\d$", lunar("models")[2], re.MULTILINE)


def test_json_keeps_apart_what_the_service_says_and_what_it_does_not(lunar, service):
    (model,) = json.loads(lunar("models", "--json", "--base-url", service.origin)[1])
    assert "input_per_million" not in model
    assert model["estimated_usd_per_million"]["input"] == "2.5"
    assert model["estimated_usd_per_million"]["source"].startswith("genai-prices ")
    assert model["context_window"]["tokens"] == 128_000


def test_a_model_that_nobody_knows_has_no_figures(lunar, service):
    service.models_list = [{"id": "house-model"}]
    _code, out, err = lunar("models", "--base-url", service.origin)
    head = "model\towner\tUSD per 1M tokens in\tcached\tout\twindow\n"
    assert (out, err) == (f"{head}house-model\t\t\t\t\t\n", "")


def test_without_the_extra_for_prices_nothing_is_estimated(lunar, service, monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    _code, out, _err = lunar("models", "--base-url", service.origin)
    assert cells_of(out, "gpt-4o")[2:5] == ["", "", ""]


def test_a_terminal_gets_a_table(on_a_terminal):
    code, shown = on_a_terminal("models").end()
    head, *rows = shown.splitlines()
    assert code == 0
    assert " ".join(head.split()) == "model owner USD per 1M tokens in cached out window"
    assert ["gpt-4o", "openai", "2.5", "1.25", "10", "~128,000"] in [row.split() for row in rows]


def test_no_name_of_a_model_steers_a_terminal(on_a_terminal, service):
    service.models_list = [{"id": "\x1b[31mred", "owned_by": "\x1b[2Jnobody"}]
    _code, shown = on_a_terminal("models", "--base-url", service.origin).end()
    assert "[31mred" in shown
    assert "[2Jnobody" in shown
    assert "\x1b" not in shown
