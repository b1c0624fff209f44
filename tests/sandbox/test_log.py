"""What the sandbox remembers: requests as they came, bills as they were sent."""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.raw import HELLO, KEY, call, chat, connect, get, parse, post, request

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox


def test_a_request_is_kept_as_it_came(lunar_sandbox: Sandbox) -> None:
    body = b'{"model": "gpt-4o",  "messages": [{"role":"user","content":"\\u00fc\xc3\xbc"}]}'
    headers = {**KEY, "x-trace": "abc", "authorization": "Bearer secret.secret.secret"}
    reply = post(lunar_sandbox, "/v1/chat/completions", body, headers)

    (seen,) = lunar_sandbox.requests()
    assert seen["method"] == "POST"
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"] == body.decode()
    assert (seen["model"], seen["status"], seen["fault"]) == ("gpt-4o", 200, None)
    assert seen["headers"]["x-trace"] == "abc"
    assert reply.headers["x-request-id"] == seen["request_id"]


def test_keys_are_never_kept(lunar_sandbox: Sandbox) -> None:
    headers = {"x-api-key": "pk_secret", "authorization": "Bearer secret.b.c", "cookie": "secret"}
    get(lunar_sandbox, "/v1/models", headers)
    (seen,) = lunar_sandbox.requests()
    assert seen["headers"]["x-api-key"] == "[redacted]"
    assert seen["headers"]["authorization"] == "Bearer [redacted]"
    assert "secret" not in json.dumps(seen)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/v1/models", {}, 401), ("/v1/nope", KEY, 404), ("/v1/providers?model=x", KEY, 404)],
)
def test_refused_requests_are_kept_too(
    lunar_sandbox: Sandbox, path: str, headers: dict[str, str], status: int
) -> None:
    assert get(lunar_sandbox, path, headers).status == status
    (seen,) = lunar_sandbox.requests()
    assert (seen["status"], seen["path"]) == (status, path.partition("?")[0])
    assert seen["query"] == path.partition("?")[2]


@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_bills_are_what_the_answers_say(lunar_sandbox_factory: Any, dialect: str) -> None:
    sandbox = lunar_sandbox_factory(dialect=dialect)
    answers = [
        chat(sandbox, model="gpt-4o").json(),
        chat(sandbox, model="openai/gpt-4o-mini").json(),
        post(sandbox, "/v1/completions", {"model": "gpt-4.1", "prompt": "Count to 9"}).json(),
        post(sandbox, "/v1/router", {"messages": HELLO}).json(),
    ]
    bills = sandbox.billed()
    assert [bill["id"] for bill in bills] == [answer["id"] for answer in answers]
    for bill, answer in zip(bills, answers, strict=True):
        assert bill["model"] == answer["model"]
        told = {name: bill[name] for name in answer["usage"] if name in bill}
        assert len(told) == 6
        assert told == {name: answer["usage"][name] for name in told}
        assert bill["usage_sent"] is True
    assert [bill["tags"] for bill in bills] == [[], [], [], ["routed"]]
    total = sum(Decimal(repr(answer["usage"]["total_cost_usd"])) for answer in answers)
    assert sandbox.total_billed() == total


def test_a_stream_is_billed_before_its_last_bytes_are_sent(lunar_sandbox: Sandbox) -> None:
    last = chat(lunar_sandbox, stream=True).events()[-2]
    (bill,) = lunar_sandbox.billed()
    assert bill["tags"] == ["streamed"]
    assert bill["id"] == last["id"]
    assert bill["total_cost_usd"] == last["usage"]["total_cost_usd"]


def test_who_hangs_up_pays_for_what_was_said(lunar_sandbox: Sandbox) -> None:
    body = {
        "model": "gpt-4o",
        "stream": True,
        "messages": [{"role": "user", "content": "5000 words"}],
    }
    headers = {**KEY, "x-sandbox-delay": "0.02"}
    with connect(lunar_sandbox) as sock:
        sock.sendall(request(lunar_sandbox, "POST", "/v1/chat/completions", body, headers))
        received = b""
        while received.count(b'"content": "') < 6:
            received += sock.recv(65536)
    (bill,) = lunar_sandbox.billed(at_least=1)
    first = parse(received).events()[0]
    assert bill["id"] == first["id"]
    assert bill["tags"] == ["streamed", "aborted"]
    assert bill["usage_sent"] is False
    assert 5 <= bill["completion_tokens"] < 2000
    expected = (bill["prompt_tokens"] * Decimal("2.5") + bill["completion_tokens"] * 10) / 1_000_000
    assert Decimal(repr(bill["total_cost_usd"])) == expected


def test_failures_and_decisions_cost_nothing(lunar_sandbox: Sandbox) -> None:
    chat(lunar_sandbox, model="nope")
    chat(lunar_sandbox, model="gpt-4o!503")
    chat(lunar_sandbox, model="gpt-4o!error-first", stream=True)
    post(lunar_sandbox, "/v1/router", {"messages": HELLO, "execute": False})
    assert len(lunar_sandbox.requests()) == 4
    assert lunar_sandbox.billed() == []
    assert lunar_sandbox.total_billed() == 0


def test_sessions_do_not_see_each_other(lunar_sandbox: Sandbox) -> None:
    one, two = lunar_sandbox.session("one"), lunar_sandbox.session("two")
    chat(one, model="gpt-4o")
    chat(two, model="o3-mini")
    chat(lunar_sandbox, headers={"x-sandbox-session": "ignored: the path says it"})
    assert [r["model"] for r in one.requests()] == ["gpt-4o"]
    assert [b["model"] for b in two.billed()] == ["o3-mini"]
    one.reset()
    assert one.requests() == one.billed() == []
    assert len(two.requests()) == len(lunar_sandbox.requests()) == 1


def test_a_session_may_be_named_by_a_header(lunar_sandbox: Sandbox) -> None:
    body = json.dumps({"model": "gpt-4o", "messages": HELLO}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: pk_a\r\n"
        f"x-sandbox-session: by-header\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with connect(lunar_sandbox) as sock:
        sock.sendall(head.encode() + body)
        assert sock.recv(15) == b"HTTP/1.1 200 OK"
    assert len(lunar_sandbox.session("by-header").requests()) == 1
    everything = get(lunar_sandbox, "/sandbox/requests?session=by-header", {}).json()
    assert everything == lunar_sandbox.session("by-header").requests()


def test_records_can_be_waited_for(lunar_sandbox: Sandbox) -> None:
    threading.Timer(0.1, chat, [lunar_sandbox]).start()
    assert len(lunar_sandbox.requests(at_least=1)) == 1
    assert len(lunar_sandbox.requests(at_least=5, timeout=0.01)) == 1
    for query in ("at_least=x", "timeout=x", "at_least=5&timeout=nan", "at_least=5&timeout=inf"):
        assert call(lunar_sandbox, "GET", f"/sandbox/billed?{query}").status == 400


def test_many_records_keep_their_order(lunar_sandbox: Sandbox) -> None:
    for number in range(50):
        chat(lunar_sandbox, seed=number)
    seeds = [json.loads(seen["body"])["seed"] for seen in lunar_sandbox.requests()]
    assert seeds == list(range(50))
    numbers = [seen["number"] for seen in lunar_sandbox.requests()]
    assert numbers == sorted(set(numbers))
