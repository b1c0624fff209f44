"""Scripted answers: in order, for each session apart, on the handle and over HTTP."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import vcr

from lunar_core import InternalServerError, Lunar
from lunar_core.sandbox import SandboxError
from tests.sandbox.raw import HELLO, call, chat, get, post

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox


def message(sandbox: Sandbox, **body: Any) -> dict[str, Any]:
    reply = chat(sandbox, **body)
    assert reply.status == 200, reply.body
    return dict(reply.json()["choices"][0]["message"])


@pytest.fixture(params=["documented", "observed"])
def either(request: pytest.FixtureRequest, lunar_sandbox_factory: Any) -> Sandbox:
    return lunar_sandbox_factory(dialect=request.param)


def test_steps_are_taken_in_order_and_then_the_rules_hold_again(either: Sandbox) -> None:
    by_rule = message(either)["content"]
    either.say("First.").call_tool("weather", {"city": "Åre"}).fail(503).say("Last.")
    assert message(either)["content"] == "First."
    called = chat(either).json()["choices"][0]
    assert called["finish_reason"] == "tool_calls"
    (tool_call,) = called["message"]["tool_calls"]
    assert tool_call["function"] == {"name": "weather", "arguments": '{"city": "Åre"}'}
    assert tool_call["id"].startswith("call_")
    assert chat(either).status == 503
    assert message(either)["content"] == "Last."
    assert message(either)["content"] == by_rule


@pytest.mark.parametrize("endpoint", ["chat", "text", "router"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_endpoint_takes_steps_plain_and_streamed(
    either: Sandbox, endpoint: str, *, stream: bool
) -> None:
    either.say("one two three")
    paths = {"chat": "/v1/chat/completions", "text": "/v1/completions", "router": "/v1/router"}
    bodies: dict[str, dict[str, Any]] = {
        "chat": {"model": "gpt-4o", "messages": HELLO},
        "text": {"model": "gpt-4o", "prompt": "Hello"},
        "router": {"messages": HELLO},
    }
    reply = post(either, paths[endpoint], {**bodies[endpoint], "stream": stream})
    if stream:
        assert reply.text() == "one two three"
    else:
        choice = reply.json()["choices"][0]
        assert (choice.get("text") or choice["message"]["content"]) == "one two three"
    assert either.billed(at_least=1)[0]["completion_tokens"] == 3
    assert either.script() == []


def test_a_streamed_tool_call_has_the_same_arguments(lunar_sandbox: Sandbox) -> None:
    lunar_sandbox.call_tool("add", {"a": 1, "b": 2})
    deltas = [e["choices"][0]["delta"] for e in chat(lunar_sandbox, stream=True).events()[:-1]]
    pieces = [piece["function"] for delta in deltas for piece in delta.get("tool_calls", ())]
    assert pieces[0]["name"] == "add"
    assert "".join(piece["arguments"] for piece in pieces) == '{"a": 1, "b": 2}'


def test_several_calls_come_in_one_answer_and_arguments_may_be_broken(
    lunar_sandbox: Sandbox,
) -> None:
    lunar_sandbox.call_tools(("add", {"a": 1}), ("add", '{"a": 1, "b'), ("roll", {}))
    calls = [c["function"] for c in message(lunar_sandbox)["tool_calls"]]
    assert [c["arguments"] for c in calls] == ['{"a": 1}', '{"a": 1, "b', "{}"]


def test_limits_and_stops_hold_for_scripted_texts(lunar_sandbox: Sandbox) -> None:
    lunar_sandbox.say("one two three").say("one two three")
    short = chat(lunar_sandbox, max_tokens=2).json()["choices"][0]
    assert (short["message"]["content"], short["finish_reason"]) == ("one two", "length")
    assert message(lunar_sandbox, stop=[" three"])["content"] == "one two"


def test_sessions_have_scripts_of_their_own(lunar_sandbox: Sandbox) -> None:
    other = lunar_sandbox.session("other-script")
    lunar_sandbox.say("mine")
    assert message(other)["content"] != "mine"
    assert message(lunar_sandbox)["content"] == "mine"
    other.say("left over")
    other.reset()
    assert other.script() == []


def test_refused_requests_decisions_and_requests_with_a_fault_take_no_step(
    lunar_sandbox: Sandbox,
) -> None:
    lunar_sandbox.say("kept")
    assert chat(lunar_sandbox, messages=[]).status == 422
    assert chat(lunar_sandbox, model="no-such-model").status == 404
    assert chat(lunar_sandbox, {"x-api-key": "nope"}).status == 401
    assert chat(lunar_sandbox, model="gpt-4o!503").status == 503
    assert post(lunar_sandbox, "/v1/router", {"messages": HELLO, "execute": False}).status == 200
    assert lunar_sandbox.script() == [{"say": "kept"}]


def test_any_fault_can_be_scripted_and_is_on_record(lunar_sandbox: Sandbox) -> None:
    lunar_sandbox.fail("429-header=3").fail("503*2").fail("cut-mid").fail("fail-twice")
    steps = ["429-header=3", "503", "503", "cut-mid", "503", "503"]
    assert [step["fail"] for step in lunar_sandbox.script()] == steps
    assert chat(lunar_sandbox).headers["retry-after"] == "3"
    assert [chat(lunar_sandbox).status for _ in range(2)] == [503, 503]
    assert b"[DONE]" not in chat(lunar_sandbox, stream=True).body
    assert [seen["fault"] for seen in lunar_sandbox.requests()] == steps[:4]


def test_a_client_survives_what_is_scripted(lunar_sandbox: Sandbox) -> None:
    lunar_sandbox.fail(503).say("Here I am.")
    with Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert answer.choices[0].message.content == "Here I am."
    assert [seen["status"] for seen in lunar_sandbox.requests()] == [503, 200]


def test_a_script_is_written_over_http_too(lunar_sandbox: Sandbox) -> None:
    steps = [{"say": "a"}, {"call_tools": [{"name": "f", "arguments": {"x": [1]}}]}]
    assert post(lunar_sandbox, "/sandbox/script", {"steps": steps}).json() == {"steps": steps}
    assert message(lunar_sandbox)["content"] == "a"
    assert get(lunar_sandbox, "/sandbox/script").json() == {"steps": steps[1:]}
    assert call(lunar_sandbox, "DELETE", "/sandbox/script").json() == {"steps": []}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"steps": [{"sing": "la"}]}, 422),
        ({"steps": [{"say": "a", "fail": "503"}]}, 422),
        ({"steps": [{"say": None}]}, 422),
        ({"steps": [{"call_tools": []}]}, 422),
        ({"steps": [{"fail": "no-such-fault"}]}, 400),
        ({"steps": [{"fail": "503*20000"}]}, 400),
        ({"answer_url": "http://example.com/"}, 422),
        (b"{", 422),
    ],
    ids=str,
)
def test_a_step_that_is_none_is_refused(lunar_sandbox: Sandbox, body: Any, status: int) -> None:
    assert post(lunar_sandbox, "/sandbox/script", body).status == status
    assert lunar_sandbox.script() == []


def test_the_handle_names_what_was_refused(lunar_sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="no-such-fault"):
        lunar_sandbox.fail("no-such-fault")


def test_a_function_answers_after_the_script(lunar_sandbox: Sandbox) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> str | dict[str, Any] | None:
        bodies.append(request)
        answers = {"a": "text", "b": {"fail": "503"}, "c": {"call_tools": [{"name": "f"}]}}
        return answers.get(request["messages"][-1]["content"])

    lunar_sandbox.answer(answer)
    lunar_sandbox.say("scripted")

    def ask(prompt: str) -> Any:
        return chat(lunar_sandbox, messages=[{"role": "user", "content": prompt}])

    assert ask("a").json()["choices"][0]["message"]["content"] == "scripted"
    assert ask("a").json()["choices"][0]["message"]["content"] == "text"
    assert ask("b").status == 503
    assert ask("c").json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "f"
    assert ask("Say rules").json()["choices"][0]["message"]["content"] == "rules"
    assert [body["messages"][0]["content"] for body in bodies] == ["a", "b", "c", "Say rules"]
    assert bodies[0]["model"] == "gpt-4o-mini"


def test_a_function_that_fails_is_told_and_is_forgotten_by_a_reset(lunar_sandbox: Sandbox) -> None:
    lunar_sandbox.answer(lambda request: request["no such field"])
    reply = chat(lunar_sandbox)
    assert (reply.status, "KeyError: 'no such field'" in reply.json()["detail"]) == (500, True)
    lunar_sandbox.answer(lambda _: {"sing": "la"})
    with (
        Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url, max_retries=0) as client,
        pytest.raises(InternalServerError, match="gave no step"),
    ):
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    lunar_sandbox.reset()
    assert chat(lunar_sandbox).status == 200


def test_the_environment_of_a_test_is_the_sandbox(lunar_sandbox_env: Sandbox) -> None:
    lunar_sandbox_env.say("by the environment")
    with Lunar() as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert answer.choices[0].message.content == "by the environment"
    assert os.environ["LUNAR_BASE_URL"] == lunar_sandbox_env.url
    assert "LUNAR_JWT" not in os.environ


def test_no_request_of_the_sandboxs_own_lands_on_a_tape(
    lunar_sandbox: Sandbox, tmp_path: Any
) -> None:
    tape = tmp_path / "tape.json"
    with vcr.use_cassette(
        str(tape), serializer="json", filter_headers=["x-api-key", "authorization"]
    ):
        lunar_sandbox.say("on tape").fail(503)
        with Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url) as client:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
        lunar_sandbox.requests()
        lunar_sandbox.billed(at_least=1)
        lunar_sandbox.about()
        lunar_sandbox.script()
        lunar_sandbox.reset()
    recorded = json.loads(tape.read_text())["interactions"]
    assert [entry["request"]["uri"] for entry in recorded] == [
        f"{lunar_sandbox.url}/v1/chat/completions"
    ]
    assert lunar_sandbox.api_key not in tape.read_text()
