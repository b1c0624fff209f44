"""``--upstream``: another server's answers, with Lunar's usage, costs and routing on top.

The other server is a second sandbox: any that speaks OpenAI's chat completions will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import FaultServer
from tests.faults_steps import chunk, close, completion, reply, reset, spoken, sse
from tests.sandbox.raw import HELLO, chat, post, tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lunar_core.sandbox import Sandbox

# What the first sandbox sends to the second. Three parts between dots: the second takes it.
UPSTREAM_KEY = "upstream.key.x"


@pytest.fixture
def chain(lunar_sandbox_factory: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Sandbox, Sandbox]:
    """Give a sandbox, and the one that it asks."""
    monkeypatch.setenv("LUNAR_SANDBOX_UPSTREAM_KEY", UPSTREAM_KEY)
    behind = lunar_sandbox_factory().session("upstream")
    front = lunar_sandbox_factory(upstream=f"{behind.url}/v1")
    behind.reset()
    return front, behind


def test_a_request_is_forwarded_and_priced(chain: tuple[Sandbox, Sandbox]) -> None:
    front, behind = chain
    tools = [tool("get_weather", city={"type": "string"})]
    answer = chat(front, model="openai/gpt-4o", tools=tools, temperature=0.1, seed=3).json()

    (seen,) = behind.requests()
    assert '"model":"gpt-4o"' in seen["body"].replace('": ', '":')
    assert '"tools"' in seen["body"]
    assert '"seed"' in seen["body"]
    assert seen["headers"]["authorization"] == "Bearer [redacted]"
    assert "x-api-key" not in seen["headers"]
    assert answer["model"] == "openai/gpt-4o"
    assert answer["choices"][0]["message"]["content"] == "Hello! How can I help you today?"
    (theirs,), (ours,) = behind.billed(), front.billed()
    assert answer["id"] == ours["id"] != theirs["id"]
    assert ours["total_cost_usd"] == theirs["total_cost_usd"] == answer["usage"]["total_cost_usd"]


def test_a_stream_is_forwarded_piece_by_piece(chain: tuple[Sandbox, Sandbox]) -> None:
    front, behind = chain
    body = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
    chunks = chat(front, **body).events()[:-1]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    first = "".join(c["delta"].get("content", "") for c in choices if c["index"] == 0)
    assert first == "Hello! How can I help you today?"
    assert [c["index"] for c in choices if c["finish_reason"]] == [0, 1]
    assert chunks[-1]["choices"] == []
    (theirs,) = behind.billed()
    assert chunks[-1]["usage"]["total_cost_usd"] == theirs["total_cost_usd"]


def test_tool_calls_come_through(chain: tuple[Sandbox, Sandbox]) -> None:
    front, _ = chain
    tools = [tool("get_weather", city={"type": "string"})]
    messages = [{"role": "user", "content": "weather in Rome"}]
    plain = chat(front, tools=tools, messages=messages).json()["choices"][0]
    assert plain["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Rome"}'
    assert plain["finish_reason"] == "tool_calls"
    chunks = chat(front, tools=tools, messages=messages, stream=True).events()[:-1]
    deltas = [chunk["choices"][0]["delta"].get("tool_calls") for chunk in chunks]
    fragments = [delta[0]["function"]["arguments"] for delta in deltas if delta]
    assert "".join(fragments) == '{"city": "Rome"}'


def test_text_completions_and_routes_come_through(chain: tuple[Sandbox, Sandbox]) -> None:
    front, behind = chain
    body = {"model": "gpt-4o", "prompt": "Count to 3", "stop": ["3"]}
    assert post(front, "/v1/completions", body).json()["choices"][0]["text"] == "1 2 "
    assert post(front, "/v1/completions", {**body, "stream": True}).text() == "1 2 "
    routed = post(front, "/v1/router", {"messages": HELLO, "max_tokens": 2}).json()
    assert routed["choices"][0]["message"]["content"] == "Hello! How"
    assert behind.requests()[-1]["path"] == "/v1/chat/completions"
    assert behind.requests()[-1]["model"] == routed["model"]


@pytest.fixture(scope="module")
def scripted(lunar_sandbox_factory: Any) -> Iterator[tuple[FaultServer, Any]]:
    """Give a scripted upstream and a factory of sandboxes that ask it."""
    with FaultServer() as server:
        yield server, lambda: lunar_sandbox_factory(upstream=server.origin)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(429, headers=["retry-after: 9"], json={"detail": "slow down"}), "429"),
        (reply(401, json={"error": {"message": "bad key"}}), "bad key"),
        (reply(500, "<html>Bad gateway</html>"), "Bad gateway"),
        (close, "RemoteProtocolError"),
        (reset, "ReadError"),
    ],
    ids=["429", "401", "html", "closed", "reset"],
)
def test_an_upstreams_failure_is_the_services_502(
    scripted: Any, answer: Any, reason: str, *, stream: bool
) -> None:
    server, sandbox = scripted
    server.script(answer)
    front = sandbox()
    failed = chat(front, stream=stream)
    assert failed.status == 502
    assert failed.json()["detail"].startswith("All providers failed for model")
    assert reason in failed.json()["detail"]
    assert "retry-after" not in failed.headers
    assert front.billed() == []


@pytest.mark.parametrize(
    "body",
    [
        *("", "<html>", "{}", "[]", "3", '{"id":'),
        *('{"choices": []}', '{"choices": [{}]}', '{"choices": [{"message": {"content": [{}]}}]}'),
    ],
)
def test_an_upstreams_garbage_is_the_services_502(scripted: Any, body: str) -> None:
    server, sandbox = scripted
    server.script(reply(200, body))
    assert chat(sandbox()).status == 502


@pytest.mark.parametrize(
    "ending",
    [
        [{"error": {"message": "overloaded"}}],
        ["data: {broken\n\n"],
        [],
        [close],
        [reset],
        ["data: [DONE]\n\n"],
        [{"choices": None}],
    ],
    ids=lambda lines: str([getattr(line, "__name__", line) for line in lines]),
)
def test_a_stream_that_breaks_off_behind_ends_in_an_error_event(
    scripted: Any, ending: list[Any]
) -> None:
    server, sandbox = scripted
    server.script(sse(chunk("Hello! "), chunk("How "), *ending))
    front = sandbox()
    *before, error = chat(front, stream=True).events()
    said = [c["choices"][0]["delta"]["content"] for c in before]
    assert said == ["", "Hello! ", "How "]
    assert error["error"]["message"].startswith("All providers failed for model")
    (bill,) = front.billed()
    assert (bill["completion_tokens"], bill["tags"]) == (2, ["streamed", "aborted"])


@pytest.mark.parametrize(
    "answer",
    [{}, {"choices": []}, {"choices": [{"message": {"role": "assistant", "content": None}}]}],
    ids=["nothing", "no choices", "no content"],
)
def test_an_answer_without_a_text_is_an_empty_one_in_the_observed_dialect(
    scripted: Any, lunar_sandbox_factory: Any, answer: dict[str, Any]
) -> None:
    server, _ = scripted
    front = lunar_sandbox_factory(upstream=server.origin, dialect="observed")
    server.script(reply(json=answer))
    response = chat(front)
    assert response.status == 200
    (choice,) = response.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": ""}
    assert choice["finish_reason"] == "stop"


def test_an_upstreams_own_count_wins(scripted: Any) -> None:
    server, sandbox = scripted
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    usage |= {"prompt_tokens_details": {"cached_tokens": 40}}
    server.script(
        sse(*spoken("Hi ", "there", usage=usage)), reply(json=completion("Hi", usage=usage))
    )
    streamed = chat(sandbox(), stream=True, model="gpt-4o").events()[-2]["usage"]
    plain = chat(sandbox(), model="gpt-4o").json()["usage"]
    for told in (streamed, plain):
        assert (told["prompt_tokens"], told["completion_tokens"]) == (100, 10)
        assert told["prompt_tokens_details"] == {"cached_tokens": 40}
        assert told["cache_input_cost_usd"] == 40 * 1.25 / 1e6
        assert told["total_cost_usd"] == (60 * 2.5 + 40 * 1.25 + 10 * 10) / 1e6


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": "many"}, {"prompt_tokens": -1}, 7])
def test_where_the_upstream_does_not_count_we_do(scripted: Any, usage: Any) -> None:
    server, sandbox = scripted
    server.script(
        sse(*spoken("Hi ", "there", usage=usage)), reply(json=completion("Hi there", usage=usage))
    )
    streamed = chat(sandbox(), stream=True).events()[-2]["usage"]
    plain = chat(sandbox()).json()["usage"]
    for told in (streamed, plain):
        assert (told["prompt_tokens"], told["completion_tokens"]) == (4, 2)


def test_only_a_line_feed_ends_an_upstreams_line(scripted: Any) -> None:
    server, sandbox = scripted
    words = "one\u2028two\u2029three\x85four "
    server.script(sse(*spoken(words, "five")))
    assert chat(sandbox(), stream=True).text() == f"{words}five"


def test_a_model_that_is_not_in_the_catalogue_has_no_cost(scripted: Any) -> None:
    server, sandbox = scripted
    server.script(*[reply(json=completion("Hi"))] * 2, sse(*spoken("Hi")))
    usage = chat(sandbox(), model="meta-llama/llama-9").json()["usage"]
    assert usage["total_tokens"] > 0
    assert not any(name.endswith("_usd") for name in usage)
    assert server.models[-1] == "meta-llama/llama-9"
    front = sandbox()
    chat(front, model="mine")
    chat(front, model="mine", stream=True)
    assert all("total_cost_usd" not in bill for bill in front.billed())
    assert front.total_billed() == 0


def test_one_model_may_stand_in_for_all(
    lunar_sandbox_factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNAR_SANDBOX_UPSTREAM_KEY", UPSTREAM_KEY)
    behind = lunar_sandbox_factory()
    front = lunar_sandbox_factory(upstream=behind.url, upstream_model="o3-mini")
    answer = chat(front, model="gpt-4o").json()
    assert behind.requests()[0]["model"] == "o3-mini"
    assert answer["model"] == "gpt-4o"
    assert answer["choices"][0]["message"]["reasoning_content"]


def test_an_upstream_that_is_not_there_is_a_502(lunar_sandbox_factory: Any) -> None:
    front = lunar_sandbox_factory(upstream="http://127.0.0.1:9/v1")
    for stream in (False, True):
        failed = chat(front, stream=stream)
        assert failed.status == 502
        assert "ConnectError" in failed.json()["detail"]
