"""Which tools are called, and with what: by rule, over the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.raw import chat, tool

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox

STRING = {"type": "string"}
INTEGER = {"type": "integer"}
WEATHER = tool("get_weather", "Get the weather at a location.", location=STRING)
TIME = tool("current_time", "Tell the time of day.", timezone=STRING)
ADD = tool("add", "Add two numbers.", a=INTEGER, b=INTEGER)


def calls(sandbox: Sandbox, prompt: str, *tools: Any, **body: Any) -> list[tuple[str, Any]]:
    messages = body.pop("messages", [{"role": "user", "content": prompt}])
    reply = chat(sandbox, messages=messages, tools=list(tools), **body)
    assert reply.status == 200, reply.body
    (choice,) = reply.json()["choices"]
    made = choice["message"].get("tool_calls", [])
    assert all(call["type"] == "function" and call["id"].startswith("call_") for call in made)
    assert len({call["id"] for call in made}) == len(made)
    forced = isinstance(body.get("tool_choice"), dict)
    assert choice["finish_reason"] == ("tool_calls" if made and not forced else "stop")
    assert (choice["message"]["content"] is None) == bool(made)
    return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in made]


def test_a_fitting_tool_is_called_with_what_the_prompt_says(lunar_sandbox: Sandbox) -> None:
    prompt = "How is the weather in San Francisco, CA?"
    assert calls(lunar_sandbox, prompt, WEATHER, ADD) == [
        ("get_weather", {"location": "San Francisco, CA"})
    ]
    assert calls(lunar_sandbox, "Add 3 and 4", WEATHER, ADD) == [("add", {"a": 3, "b": 4})]


def test_a_tool_that_does_not_fit_is_not_called(lunar_sandbox: Sandbox) -> None:
    assert calls(lunar_sandbox, "Hello there", WEATHER, ADD, TIME) == []
    assert calls(lunar_sandbox, "What do you get for it?", WEATHER) == []


def test_two_fitting_tools_are_called_at_once_unless_that_is_forbidden(
    lunar_sandbox: Sandbox,
) -> None:
    prompt = "Tell me the weather in Oslo and the time in New York"
    both = [("get_weather", {"location": "Oslo"}), ("current_time", {"timezone": "New York"})]
    assert calls(lunar_sandbox, prompt, WEATHER, ADD, TIME) == both
    one = calls(lunar_sandbox, prompt, WEATHER, ADD, TIME, parallel_tool_calls=False)
    assert len(one) == 1


def test_a_call_that_no_value_is_left_for_starts_over(lunar_sandbox: Sandbox) -> None:
    both = [("get_weather", {"location": "Oslo"}), ("current_time", {"timezone": "Oslo"})]
    assert calls(lunar_sandbox, "The weather and the time in Oslo?", WEATHER, TIME) == both


@pytest.mark.parametrize("prompt", ["Hello", "weather in Oslo"])
def test_tool_choice_is_obeyed(lunar_sandbox: Sandbox, prompt: str) -> None:
    named = {"type": "function", "function": {"name": "add"}}

    def names(choice: Any) -> list[str]:
        return [n for n, _ in calls(lunar_sandbox, prompt, WEATHER, ADD, tool_choice=choice)]

    assert names("none") == []
    assert names("required") == ["get_weather"]
    assert names(named) == ["add"]
    assert names("auto") == (["get_weather"] if "weather" in prompt else [])


def test_a_choice_needs_its_tool(lunar_sandbox: Sandbox) -> None:
    named = {"type": "function", "function": {"name": "nope"}}
    assert chat(lunar_sandbox, tools=[ADD], tool_choice=named).status == 400
    assert chat(lunar_sandbox, tool_choice="required").status == 400


def test_a_tools_result_is_answered_with_text_that_quotes_it(lunar_sandbox: Sandbox) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "How is the weather in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "Minus 3 and clear."},
    ]
    reply = chat(lunar_sandbox, messages=messages, tools=[WEATHER])
    assert "Minus 3 and clear." in reply.json()["choices"][0]["message"]["content"]
    again = calls(lunar_sandbox, "", WEATHER, messages=messages, tool_choice="required")
    assert again == [("get_weather", {"location": "Oslo"})]


@pytest.mark.parametrize("name", ["株式会社こんにちは", "Ünïcødé GmbH", "Компания"])
def test_unicode_arrives_as_it_was_said(lunar_sandbox: Sandbox, name: str) -> None:
    create = tool("create_customer", customer_name=STRING)
    prompt = f"Please create a customer called '{name}' (a company)"
    assert calls(lunar_sandbox, prompt, create) == [("create_customer", {"customer_name": name})]


def test_a_tool_without_parameters_gets_none(lunar_sandbox: Sandbox) -> None:
    bare = {"type": "function", "function": {"name": "roll_dice"}}
    assert calls(lunar_sandbox, "Roll the dice", bare) == [("roll_dice", {})]


def test_a_limit_cuts_a_call_as_it_cuts_a_text(lunar_sandbox: Sandbox) -> None:
    messages = [{"role": "user", "content": "Add 3 and 4, then how is the weather in Oslo?"}]

    def cut(limit: int) -> tuple[list[str], str, int]:
        body = {"messages": messages, "tools": [ADD, WEATHER], "max_tokens": limit}
        answer = chat(lunar_sandbox, **body).json()
        (choice,) = answer["choices"]
        made = [call["function"]["arguments"] for call in choice["message"]["tool_calls"]]
        return made, choice["finish_reason"], answer["usage"]["completion_tokens"]

    assert cut(1) == ([""], "length", 1)
    assert cut(3) == (['{"a": 3,'], "length", 3)
    assert cut(6) == (['{"a": 3, "b": 4}', ""], "length", 6)
    assert cut(8) == (['{"a": 3, "b": 4}', '{"location": "Oslo"}'], "tool_calls", 8)


def test_calls_count_as_tokens(lunar_sandbox: Sandbox) -> None:
    messages = [{"role": "user", "content": "Add 3 and 4"}]
    usage = chat(lunar_sandbox, messages=messages, tools=[ADD]).json()["usage"]
    assert usage["completion_tokens"] == 1 + 4  # the name; {"a": 3, "b": 4} has four words
    streamed = chat(lunar_sandbox, messages=messages, tools=[ADD], stream=True).events()
    assert streamed[-2]["usage"]["completion_tokens"] == 5
    without = chat(lunar_sandbox, messages=messages).json()["usage"]["prompt_tokens"]
    assert usage["prompt_tokens"] > without
