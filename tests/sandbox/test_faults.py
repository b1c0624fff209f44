"""Faults on demand: each does to the wire what the list says of it."""

from __future__ import annotations

import email.utils
import time
from typing import TYPE_CHECKING, Any

import pytest

from lunar_core.sandbox.faults import FAULTS
from tests.sandbox.raw import HELLO, KEY, call, chat, connect, get, parse, post, request

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox

STATUSES = [
    "400",
    "401",
    "403",
    "404",
    "408",
    "409",
    "413",
    "422",
    "429",
    "500",
    "502",
    "503",
    "504",
]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_status_is_answered_before_anything_else(
    lunar_sandbox: Sandbox, status: str, *, stream: bool
) -> None:
    reply = chat(lunar_sandbox, model=f"gpt-4o!{status}", stream=stream)
    assert reply.status == int(status)
    assert reply.json()["detail"]
    assert lunar_sandbox.billed() == []
    (seen,) = lunar_sandbox.requests()
    assert (seen["status"], seen["fault"]) == (int(status), status)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO}),
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO, "stream": True}),
        ("/v1/completions", {"model": "gpt-4o", "prompt": "Hello"}),
        ("/v1/completions", {"model": "gpt-4o", "prompt": "Hello", "stream": True}),
        ("/v1/router", {"messages": HELLO}),
        ("/v1/router", {"messages": HELLO, "stream": True}),
        ("/v1/router", {"messages": HELLO, "execute": False}),
    ],
)
def test_the_header_works_everywhere(lunar_sandbox: Sandbox, path: str, body: Any) -> None:
    reply = post(lunar_sandbox, path, body, {**KEY, "x-sandbox-fault": "503"})
    assert reply.status == 503


@pytest.mark.parametrize(
    "path", ["/v1/models", "/v1/providers", "/v1/router/profiles", "/v1/pricing/models"]
)
def test_the_header_works_on_lists(lunar_sandbox: Sandbox, path: str) -> None:
    assert get(lunar_sandbox, path, {**KEY, "x-sandbox-fault": "500"}).status == 500


DECISION = ("POST", "/v1/router", {"messages": HELLO, "execute": False})


@pytest.mark.parametrize("fault", ["hangup-mid", "reset-mid", "truncated", "error-first"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("GET", "/v1/providers", None),
        ("GET", "/v1/router/profiles", None),
        ("GET", "/v1/pricing/models", None),
        DECISION,
    ],
)
def test_lists_and_decisions_break_too(
    lunar_sandbox: Sandbox, method: str, path: str, body: Any, fault: str
) -> None:
    whole = call(lunar_sandbox, method, path, body).body
    read, ended = received(lunar_sandbox, method, path, body, {**KEY, "x-sandbox-fault": fault})
    broken = parse(read)
    assert broken.status == 200
    assert len(broken.body) < len(whole)
    assert ended == ("reset" if fault == "reset-mid" else "closed")
    assert broken.whole is not fault.endswith("-mid")
    assert (broken.body[:8] == b'{"error"') is (fault == "error-first")


@pytest.mark.parametrize(
    "model", ["fault-503", "gpt-4o!503", "openai/gpt-4o!503", "openai/fault-503"]
)
def test_a_models_name_asks_for_a_fault(lunar_sandbox: Sandbox, model: str) -> None:
    assert chat(lunar_sandbox, model=model).status == 503
    body = {"model": model, "prompt": "Hello"}
    assert post(lunar_sandbox, "/v1/completions", body).status == 503


def test_a_candidate_of_the_router_may_fail(lunar_sandbox: Sandbox) -> None:
    models = ["gpt-4o!503", "gpt-3.5-turbo"]
    decided = post(
        lunar_sandbox, "/v1/router", {"messages": HELLO, "models": models, "execute": False}
    )
    assert decided.json()["routing"]["selected_model"] == "gpt-4o!503"
    reply = post(lunar_sandbox, "/v1/router", {"messages": HELLO, "models": models})
    assert reply.status == 503
    assert "gpt-4o!503" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("form", "place"),
    [
        ("429", lambda reply: reply.json()["retry_after"]),
        ("429-body", lambda reply: reply.json()["retry_after"]),
        ("429-detail", lambda reply: reply.json()["detail"]["retry_after"]),
        ("429-detail-s", lambda reply: reply.json()["detail"]["retry_after_s"]),
        ("429-header", lambda reply: float(reply.headers["retry-after"])),
        ("429-ms", lambda reply: float(reply.headers["retry-after-ms"]) / 1000),
    ],
)
def test_a_429_says_when_to_come_back(lunar_sandbox: Sandbox, form: str, place: Any) -> None:
    assert place(chat(lunar_sandbox, model=f"gpt-4o!{form}=0.25")) == 0.25
    assert place(chat(lunar_sandbox, model=f"gpt-4o!{form}")) == 1


def test_a_429_may_give_a_date(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-4o!429-date=30")
    until = email.utils.parsedate_to_datetime(reply.headers["retry-after"]).timestamp()
    assert 27 < until - time.time() < 31


def test_a_429_may_say_nothing(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-4o!429-plain")
    assert reply.json() == {"message": "Too Many Requests"}
    assert "retry-after" not in reply.headers


def test_every_form_of_an_error_body_can_be_had(lunar_sandbox: Sandbox) -> None:
    def body(form: str) -> Any:
        reply = chat(lunar_sandbox, model=f"gpt-4o!500-{form}")
        assert reply.status == 500
        return reply

    assert isinstance(body("error").json()["error"], str)
    assert isinstance(body("error-object").json()["error"]["message"], str)
    assert isinstance(body("message").json()["message"], str)
    assert body("object").json()["detail"].keys() == {"error", "code"}
    assert body("list").json()["detail"][0].keys() == {"type", "loc", "msg", "input"}
    assert body("html").headers["content-type"].startswith("text/html")
    assert body("empty").body == b""


def test_garbage_comes_with_a_200(lunar_sandbox: Sandbox) -> None:
    for stream in (False, True):
        html = chat(lunar_sandbox, model="gpt-4o!html", stream=stream)
        assert (html.status, html.body[:6]) == (200, b"<html>")
        empty = chat(lunar_sandbox, model="gpt-4o!empty", stream=stream)
        assert (empty.status, empty.body) == (200, b"")
        assert chat(lunar_sandbox, model="gpt-4o!no-choices", stream=stream).json() == {}
    assert lunar_sandbox.billed() == []
    cut = chat(lunar_sandbox, model="gpt-4o!truncated")
    assert cut.whole
    assert cut.body.startswith(b'{"id":') or cut.body.startswith(b'{"id": ')
    assert not cut.body.endswith(b"}")


def test_a_truncated_stream_ends_within_a_chunk(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-4o!truncated", stream=True)
    assert reply.whole
    assert not reply.body.endswith(b"\n")
    assert reply.body.count(b'"content": "') == 3  # the opening, then two words


def test_a_malformed_chunk_is_no_json(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-4o!malformed", stream=True)
    with pytest.raises(ValueError, match="Unterminated string"):
        reply.events()


def test_a_stream_may_end_early_or_without_done(lunar_sandbox: Sandbox) -> None:
    cut = chat(lunar_sandbox, model="gpt-4o!cut-mid=3", stream=True)
    assert cut.whole
    assert cut.text() == "Hello! How can "
    assert cut.events()[-1]["choices"][0]["finish_reason"] is None
    undone = chat(lunar_sandbox, model="gpt-4o!no-done", stream=True)
    assert undone.events()[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("kind", ["error", "detail"])
def test_an_error_event_may_come_first_or_in_the_middle(lunar_sandbox: Sandbox, kind: str) -> None:
    (first,) = chat(lunar_sandbox, model=f"gpt-4o!{kind}-first", stream=True).events()
    *before, error = chat(lunar_sandbox, model=f"gpt-4o!{kind}-mid=1", stream=True).events()
    assert first.keys() == error.keys() == {kind}
    assert [chunk["choices"][0]["delta"]["content"] for chunk in before] == ["", "Hello! "]
    (bill,) = lunar_sandbox.billed()
    assert (bill["completion_tokens"], bill["tags"]) == (1, ["streamed", "aborted"])


def test_an_error_event_asked_for_without_a_stream_is_the_body(lunar_sandbox: Sandbox) -> None:
    reply = chat(lunar_sandbox, model="gpt-4o!detail-first")
    assert reply.status == 200
    assert reply.json().keys() == {"detail"}
    assert lunar_sandbox.billed() == []


def received_chat(sandbox: Sandbox, *, silent_after: Any = None, **body: Any) -> tuple[bytes, str]:
    payload = {"model": "gpt-4o", "messages": HELLO, **body}
    return received(sandbox, "POST", "/v1/chat/completions", payload, silent_after=silent_after)


def received(
    sandbox: Sandbox,
    method: str,
    path: str,
    body: Any,
    headers: dict[str, str] | None = None,
    *,
    silent_after: bytes | None = None,
) -> tuple[bytes, str]:
    """Read until the connection ends, and say how: closed, reset or silent.

    Silence is what lasts a while after the bytes `silent_after`, however late these come.
    """
    read = b""
    with connect(sandbox) as sock:
        sock.sendall(request(sandbox, method, path, body, headers))
        sock.settimeout(0.2 if silent_after == b"" else 30)
        try:
            while more := sock.recv(65536):
                read += more
                if silent_after and silent_after in read:
                    sock.settimeout(0.2)
        except ConnectionResetError:
            return read, "reset"
        except TimeoutError:
            return read, "silent"
    return read, "closed"


@pytest.mark.parametrize("stream", [False, True])
def test_it_hangs_up_before_any_byte(lunar_sandbox: Sandbox, *, stream: bool) -> None:
    assert received_chat(lunar_sandbox, model="gpt-4o!hangup", stream=stream) == (b"", "closed")
    assert received_chat(lunar_sandbox, model="gpt-4o!reset", stream=stream) == (b"", "reset")
    assert lunar_sandbox.billed() == []


@pytest.mark.parametrize("fault", ["hangup-mid", "reset-mid"])
def test_it_hangs_up_in_the_middle(lunar_sandbox: Sandbox, fault: str) -> None:
    read, ended = received_chat(lunar_sandbox, model=f"gpt-4o!{fault}", stream=True)
    assert ended == fault.removesuffix("-mid").replace("hangup", "closed")
    reply = parse(read)
    assert not reply.whole
    assert reply.text() == "Hello! How "
    plain, _ = received_chat(lunar_sandbox, model=f"gpt-4o!{fault}")
    assert not parse(plain).whole
    assert len(parse(plain).body) > 100
    streamed, whole = lunar_sandbox.billed(at_least=2)
    assert streamed["completion_tokens"] == 2
    assert (whole["completion_tokens"], whole["usage_sent"]) == (7, False)
    assert "aborted" in streamed["tags"]
    assert "aborted" in whole["tags"]


@pytest.mark.parametrize("stream", [False, True])
def test_it_keeps_silent(lunar_sandbox: Sandbox, *, stream: bool) -> None:
    quiet = received_chat(lunar_sandbox, model="gpt-4o!hang", stream=stream, silent_after=b"")
    assert quiet == (b"", "silent")
    begun = b'"content": "How "' if stream else b"200 OK"
    _, ended = received_chat(
        lunar_sandbox, model="gpt-4o!hang-mid", stream=stream, silent_after=begun
    )
    assert ended == "silent"
    (bill,) = lunar_sandbox.billed(at_least=1)
    assert bill["completion_tokens"] == (2 if stream else 7)


def test_it_can_be_slow(lunar_sandbox: Sandbox) -> None:
    begun = time.monotonic()
    assert chat(lunar_sandbox, model="gpt-4o!slow=0.2").status == 200
    assert time.monotonic() - begun >= 0.2
    assert lunar_sandbox.billed()[0]["tags"] == []


@pytest.mark.parametrize("spec", ["503*2", "fail-twice", "429-header=0*2"])
def test_it_fails_twice_then_works_then_starts_over(lunar_sandbox: Sandbox, spec: str) -> None:
    statuses = [chat(lunar_sandbox, model=f"gpt-4o!{spec}").status for _ in range(6)]
    assert [status == 200 for status in statuses] == [False, False, True] * 2


def test_it_fails_twice_by_header_on_the_router(lunar_sandbox: Sandbox) -> None:
    headers = {**KEY, "x-sandbox-fault": "fail-twice"}
    body = {"messages": HELLO}
    statuses = [post(lunar_sandbox, "/v1/router", body, headers).status for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_failures_are_counted_per_body_key_and_session(lunar_sandbox: Sandbox) -> None:
    def status(sandbox: Sandbox = lunar_sandbox, key: str = "", **body: Any) -> int:
        headers = {"idempotency-key": key} if key else {}
        return chat(sandbox, model="gpt-4o!503*1", headers=headers, **body).status

    assert status() == 503
    assert status(seed=1) == 503
    assert status(key="a") == 503
    assert status(lunar_sandbox.session("another")) == 503
    assert status() == 200
    assert status(key="a", seed=2) == 200


def test_an_unknown_fault_is_refused_by_name(lunar_sandbox: Sandbox) -> None:
    for spec in ("explode", "429-nonsense", "503*", "200"):
        reply = chat(lunar_sandbox, model=f"gpt-4o!{spec}")
        assert reply.status == 400
        assert spec in reply.json()["detail"]


def test_the_list_of_faults_is_served_and_true(lunar_sandbox: Sandbox) -> None:
    listed = get(lunar_sandbox, "/sandbox/faults", {}).json()
    assert listed == dict(FAULTS)
    silent = {"hang", "hang-mid", "hangup", "hangup-mid", "reset", "reset-mid"}
    for name in listed.keys() - silent:
        spec = name.replace("STATUS", "500")
        reply = chat(lunar_sandbox, model=f"gpt-4o!{spec}=0", stream=True)
        refused_as_unknown = reply.status == 400 and b"No fault" in reply.body
        assert not refused_as_unknown, name
        assert lunar_sandbox.requests()[-1]["fault"] == f"{spec}=0"
