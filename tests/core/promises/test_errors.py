"""Promises 1 to 3: every failure is one of our errors, and says what the server said."""

import copy
import pickle
import threading
import time

import pytest

import lunar_core
from lunar_core import (
    APIConnectionError,
    APIResponseValidationError,
    APIStatusError,
    APIStreamError,
    APITimeoutError,
    LunarError,
)
from lunar_core.client.body_buffer import Inflater
from lunar_core.client.stream_state import StreamState
from lunar_core.wire import events
from tests.faults import nobody_listens
from tests.faults_steps import (
    chunk,
    close,
    completion,
    gzipped,
    hang,
    head,
    reply,
    reset,
    spoken,
    sse,
    wait,
)

STATUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "APIStatusError",
    409: "ConflictError",
    413: "APIStatusError",
    418: "APIStatusError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "InternalServerError",
    529: "InternalServerError",
}
JSON = ["content-type: application/json"]
QUESTION = [{"role": "user", "content": "Hello!"}]

BROKEN_CONNECTIONS = {
    "closed before an answer": close,
    "reset before an answer": reset,
    "not HTTP": [b"SSH-2.0-OpenSSH_9.6\r\n", close],
    "a line of noise": [b"\x00\xff\xfe\r\n\r\n", close],
    "cut in the head": [b"HTTP/1.1 200 OK\r\ncontent-ty", close],
    "cut in the body": [head(200, [*JSON, "content-length: 500"]), b'{"id": "x"', close],
    "reset in the body": [head(200, [*JSON, "content-length: 500"]), b'{"id": "x"', reset],
    "cut in a chunk": [head(200, [*JSON, "transfer-encoding: chunked"]), b"ff\r\n{", close],
    "a chunk of no size": [
        head(200, [*JSON, "transfer-encoding: chunked"]),
        b"zz\r\n{}\r\n",
        close,
    ],
    "a length that is no number": [head(200, [*JSON, "content-length: many"]), close],
}

DEEP = b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
NOT_COMPLETIONS = {
    "HTML": reply(200, "<html><body>Welcome to nginx!</body></html>", ["content-type: text/html"]),
    "nothing": reply(200, b"", JSON),
    "no content": reply(204),
    "cut JSON": reply(200, b'{"id": "chatcmpl-abc123", "choi', JSON),
    "a scalar": reply(json=42),
    "null": reply(200, b"null", JSON),
    "a list": reply(json=[completion()]),
    "no choices": reply(json={"id": "chatcmpl-abc123", "object": "chat.completion"}),
    "null choices": reply(json=completion(choices=None)),
    "empty choices": reply(json=completion(choices=[])),
    "choices of the wrong kind": reply(json=completion(choices=["Hello!"])),
    "a detail": reply(json={"detail": "All providers failed"}),
    "an error": reply(json={"error": {"message": "overloaded"}}),
    "bad gzip": reply(200, b"\x1f\x8b\x08garbage", [*JSON, "content-encoding: gzip"]),
    "cut gzip": reply(200, gzipped(b'{"id": 1}' * 99)[:-12], [*JSON, "content-encoding: gzip"]),
    "an unknown encoding": reply(200, b"\x0b\x02\x80", [*JSON, "content-encoding: x-nonesuch"]),
    "JSON too deep to read": reply(200, DEEP, JSON),
    "a number too long to read": reply(200, b'{"choices": ' + b"9" * 5_000 + b"}", JSON),
    "bytes that are no UTF-8": reply(200, b'{"id": "\xff\xfe"}', JSON),
}


@pytest.mark.parametrize("status", STATUSES)
def test_1_every_status_is_its_own_error_with_all_that_the_server_said(
    status, connect, way, fault_server
):
    body = {"detail": "All providers failed for model 'x': Model not found"}
    fault_server.always(reply(status, json=body, headers=["x-request-id: req-17"]))
    with pytest.raises(LunarError) as caught:
        way.ask(connect(fault_server))
    error = caught.value
    assert type(error) is getattr(lunar_core, STATUSES[status])
    assert isinstance(error, APIStatusError)
    assert (error.status_code, error.request_id, error.body) == (status, "req-17", body)
    assert body["detail"] in str(error)
    assert [(attempt.model, attempt.status_code) for attempt in error.attempts] == [
        ("gpt-4o-mini", status)
    ]


@pytest.mark.parametrize("answer", BROKEN_CONNECTIONS.values(), ids=BROKEN_CONNECTIONS)
def test_1_every_broken_connection_is_an_api_connection_error(answer, connect, way, fault_server):
    fault_server.script(answer)
    with pytest.raises(APIConnectionError) as caught:
        way.ask(connect(fault_server))
    assert str(caught.value)
    assert caught.value.request_id is None


def test_1_a_refused_connection_is_an_api_connection_error_that_names_the_origin(connect, way):
    origin = nobody_listens()
    with pytest.raises(APIConnectionError, match=origin.removeprefix("http://")):
        way.ask(connect(origin))


def test_1_a_host_that_does_not_exist_is_an_api_connection_error(connect, way):
    with pytest.raises(APIConnectionError):
        way.ask(connect("https://nowhere.invalid", timeout=2))


def test_1_silence_is_an_api_timeout_error(connect, way, fault_server):
    fault_server.script(hang)
    with pytest.raises(APITimeoutError):
        way.ask(connect(fault_server, timeout=0.1))


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.completions.create(model="m", prompt="p"),
        lambda client: list(client.completions.create(model="m", prompt="p", stream=True)),
        lambda client: client.router.create(messages=[{"role": "user", "content": "p"}]),
        lambda client: client.router.decide(messages=[{"role": "user", "content": "p"}]),
        lambda client: client.router.profiles(),
        lambda client: client.models.list(),
        lambda client: client.providers.list(),
    ],
    ids=["text", "streamed text", "router", "decide", "profiles", "models", "providers"],
)
@pytest.mark.parametrize(
    "answer",
    [reply(503), reply(200, b"<html>"), reply(200, DEEP, JSON), reset, [b"junk\r\n\r\n", close]],
    ids=["503", "HTML", "deep JSON", "reset", "junk"],
)
def test_1_nothing_raw_escapes_from_any_endpoint(answer, ask, connect, fault_server):
    fault_server.always(answer)
    with pytest.raises(LunarError):
        ask(connect(fault_server))


def test_1_a_bug_of_ours_is_told_as_one_and_neither_retried_nor_put_to_another_model(
    connect, way, fault_server, monkeypatch
):
    fault_server.always(way.answer())
    monkeypatch.setattr(Inflater, "feed", lambda _self, _piece: 1 // 0)
    with pytest.raises(LunarError, match="ZeroDivisionError") as caught:
        way.ask(connect(fault_server, max_retries=2, fallbacks=["another"]))
    assert type(caught.value) is LunarError
    assert f"{__file__}:" in str(caught.value)
    assert len(fault_server.requests) == len(caught.value.attempts) == 1


@pytest.mark.parametrize(
    "where", [(Inflater, "feed"), (events, "plain_chunk"), (StreamState, "next")]
)
def test_1_so_is_one_met_in_mid_stream_with_what_was_paid_for(
    where, connect, fault_server, monkeypatch
):
    go_on = threading.Event()
    fault_server.script(sse(chunk("Hel"), wait(go_on), chunk("lo"), *spoken()))
    stream = connect(fault_server).chat.completions.create(
        model="m", messages=QUESTION, stream=True
    )
    monkeypatch.setattr(*where, lambda *_: 1 // 0)
    go_on.set()
    with pytest.raises(LunarError, match="ZeroDivisionError") as caught:
        list(stream.plain_chunks())
    assert type(caught.value) is LunarError
    assert caught.value.partial.choices[0].message.content.startswith("Hel")


@pytest.mark.parametrize(
    "answer",
    [reply(429, json={"detail": "slow down"}), reply(200, b"<html>"), close, reply(404)],
    ids=["429", "HTML", "closed", "404"],
)
def test_1_errors_survive_pickle_and_copy_with_everything_on_them(
    answer, connect, way, fault_server
):
    fault_server.script(answer)
    with pytest.raises(LunarError) as caught:
        way.ask(connect(fault_server))
    error = caught.value
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
        assert twin.attempts == error.attempts != ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"detail": "no such model"}', "no such model"),
        ('{"detail": {"message": "no such model", "code": 7}}', "no such model"),
        ('{"error": "no such model"}', "no such model"),
        ('{"error": {"message": "no such model", "type": "x"}}', "no such model"),
        ('{"message": "no such model"}', "no such model"),
        ('{"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}', "field required"),
        ('{"detail": [{"loc": ["body", "messages"], "msg": "field required"}]}', "messages"),
        ("<html><title>502 Bad Gateway</title></html>", "502 Bad Gateway"),
        ("upstream connect error", "upstream connect error"),
        ('"just a string"', "just a string"),
    ],
)
def test_2_the_servers_reason_is_in_the_text_in_every_form_it_comes_in(
    body, reason, connect, way, fault_server
):
    fault_server.script(reply(400, body))
    with pytest.raises(lunar_core.BadRequestError) as caught:
        way.ask(connect(fault_server))
    assert reason in str(caught.value)
    assert "400" in str(caught.value)


def test_2_a_body_nested_deep_is_kept_as_its_text(connect, way, fault_server):
    nested = '{"detail":' * 600 + '"no"' + "}" * 600
    fault_server.script(reply(400, nested))
    with pytest.raises(lunar_core.BadRequestError) as caught:
        way.ask(connect(fault_server))
    assert caught.value.body == nested
    assert pickle.loads(pickle.dumps(caught.value)).body == nested


@pytest.mark.parametrize("depth", [30, 400, 900, 5_000, 50_000])
@pytest.mark.parametrize("inmost", ['"x"', '"\\ud800"', "{}"])
def test_2_a_reason_nested_deep_is_read_or_given_up_at_once(
    inmost, depth, connect, way, fault_server
):
    nested = '{"detail":' * depth + inmost + "}" * depth
    answers = [reply(400, nested), reply(200, nested)]
    if way.streamed:
        answers += [sse(chunk("Hel"), f"data: {nested}\n\n")]
    client = connect(fault_server)
    for answer in answers:
        fault_server.script(answer)
        started = time.thread_time()  # the processor's: a busy machine may take its time
        with pytest.raises(LunarError):
            way.ask(client)
        assert time.thread_time() - started < 1


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[]", b"\xff\xfe", b'{"detail": null}'])
def test_2_an_error_without_a_reason_still_names_its_status(body, connect, way, fault_server):
    fault_server.script(reply(502, body, JSON))
    with pytest.raises(lunar_core.InternalServerError, match="502"):
        way.ask(connect(fault_server))


@pytest.mark.parametrize("form", ['{"detail": "%s"}', '{"error": {"message": "%s"}}', "<p>%s</p>"])
def test_2_a_long_reason_is_cut_at_2000_characters(form, connect, way, fault_server):
    fault_server.script(reply(400, form % ("because " * 5_000)))
    with pytest.raises(lunar_core.BadRequestError, match="because because") as caught:
        way.ask(connect(fault_server))
    assert len(str(caught.value)) <= 2_000 + len("the service broke the stream off: ")


@pytest.mark.parametrize("status", [307, 200])
def test_2_so_is_what_its_headers_say(status, connect, way, fault_server):
    long = "x" * 30_000
    fault_server.script(
        reply(status, "<html>", [f"location: http://x/{long}", f"content-type: text/html; {long}"])
    )
    with pytest.raises(LunarError, match=str(status)) as caught:
        way.ask(connect(fault_server))
    assert len(str(caught.value)) <= 2_200


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "the model is overloaded"}},
        {"error": "the model is overloaded"},
        {"detail": "the model is overloaded"},
        {"detail": [{"loc": ["body"], "msg": "the model is overloaded"}]},
        'event: error\ndata: {"message": "the model is overloaded"}\n\n',
        "event: error\ndata: the model is overloaded\n\n",
    ],
)
@pytest.mark.parametrize("before", [[], [chunk("Hel")]], ids=["at once", "after text"])
def test_2_a_stream_that_fails_says_the_servers_reason(before, event, connect, fault_server):
    fault_server.script(sse(*before, event))
    client = connect(fault_server)
    with pytest.raises(APIStreamError, match="the model is overloaded"):
        list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))


def test_2_a_long_reason_in_a_stream_is_cut_too(connect, fault_server):
    fault_server.script(sse(chunk("Hel"), {"error": {"message": "because " * 5_000}}))
    client = connect(fault_server)
    with pytest.raises(APIStreamError, match="because because") as caught:
        list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))
    assert len(str(caught.value)) <= 2_000 + len("the service broke the stream off: ")


@pytest.mark.parametrize("answer", NOT_COMPLETIONS.values(), ids=NOT_COMPLETIONS)
def test_3_a_200_that_is_no_completion_is_an_error_that_shows_what_came(
    answer, connect, way, fault_server
):
    fault_server.script(answer)
    with pytest.raises(APIResponseValidationError) as caught:
        way.ask(connect(fault_server))
    error = caught.value
    assert error.status_code in (200, 204)
    assert str(error.status_code) in str(error)
    assert len(str(error)) <= 2_000


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (NOT_COMPLETIONS["HTML"], ["text/html", "Welcome to nginx!"]),
        (NOT_COMPLETIONS["cut JSON"], ["application/json", "chatcmpl-abc123"]),
        (NOT_COMPLETIONS["a detail"], ["application/json", "All providers failed"]),
        (NOT_COMPLETIONS["an error"], ["application/json", "overloaded"]),
    ],
)
def test_3_it_shows_the_content_type_and_the_first_bytes(answer, shown, connect, way, fault_server):
    fault_server.script(answer)
    with pytest.raises(APIResponseValidationError) as caught:
        way.ask(connect(fault_server))
    for part in shown:
        assert part in str(caught.value)


def test_3_an_event_stream_in_reply_to_a_plain_call_is_put_together(connect, fault_server):
    fault_server.script(sse(*spoken("Hel", "lo")))
    answer = connect(fault_server).chat.completions.create(model="m", messages=QUESTION)
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage.total_cost_usd is not None


@pytest.mark.parametrize(
    "events",
    [
        [chunk("Hel")],
        [chunk("Hel"), {"error": {"message": "died"}}],
        ["data: {\n\n"],
        [": beat\n\n"],
    ],
    ids=["cut", "an error", "malformed", "empty"],
)
def test_3_one_that_fails_is_the_error_of_a_stream(events, connect, fault_server):
    fault_server.script(sse(*events))
    with pytest.raises(APIStreamError):
        connect(fault_server).chat.completions.create(model="m", messages=QUESTION)


ODD_FIELDS = {
    "nothing but choices": ["id", "object", "model", "usage"],
    "null usage": {"usage": None},
    "empty usage": {"usage": {}},
    "null costs": {"usage": {"prompt_tokens": 1, "total_cost_usd": None, "latency_ms": None}},
    "costs as text": {"usage": {"total_cost_usd": "0.000045", "latency_ms": "89.2"}},
    "counts as text": {"usage": {"prompt_tokens": "10", "total_tokens": "30"}},
    "counts as floats": {"usage": {"prompt_tokens": 10.0, "total_tokens": 30.5}},
    "text that is no number": {"usage": {"prompt_tokens": "ten", "total_cost_usd": "free"}},
    "numbers that are none": {"usage": {"total_cost_usd": float("nan"), "ttft_ms": float("inf")}},
    "negative numbers": {"usage": {"prompt_tokens": -1, "total_cost_usd": -0.1}},
    "usage of the wrong kind": {"usage": "none"},
    "details that are null": {"usage": {"prompt_tokens_details": None}},
    "details of the wrong kind": {"usage": {"prompt_tokens_details": 3}},
    "a created in text": {"created": "2026-01-01"},
    "a created with a fraction": {"created": 1_700_000_000.5},
    "a null model and id": {"model": None, "id": None, "object": None},
    "a number for an id": {"id": 7},
    "null routing": {"routing": None},
    "routing of the wrong kind": {"routing": "gpt-4o"},
    "fields of its own": {"system_fingerprint": None, "x_vendor": {"deep": [1]}},
}


@pytest.mark.parametrize("odd", ODD_FIELDS.values(), ids=ODD_FIELDS)
def test_3_optional_fields_may_be_missing_null_text_or_no_number(odd, connect, way, fault_server):
    def changed(body):
        if isinstance(odd, list):
            return {name: value for name, value in body.items() if name not in odd}
        return body | odd

    if way.streamed:
        fault_server.script(
            sse(*(changed(chunk(text)) for text in ("Hel", "lo")), changed(chunk(finish="stop")))
        )
    else:
        fault_server.script(reply(json=changed(completion("Hello"))))
    answer = way.ask(connect(fault_server))
    assert answer.choices[0].message.content == "Hello"


def test_3_what_usage_does_not_say_legibly_is_unknown_never_zero(connect, way, fault_server):
    usage = {"prompt_tokens": "10", "total_tokens": "many", "total_cost_usd": float("nan")}
    if way.streamed:
        fault_server.script(sse(*spoken("Hi", usage=usage)))
    else:
        fault_server.script(reply(json=completion("Hi", usage=usage)))
    answer = way.ask(connect(fault_server))
    assert answer.usage.prompt_tokens == 10
    assert answer.usage.total_tokens is None
    assert answer.usage.cost is None


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Hello"},
        {"role": None, "content": "Hello"},
        {"role": "assistant", "content": "Hello", "tool_calls": None},
        {"role": "assistant", "content": "Hello", "tool_calls": [], "refusal": None},
        {"role": "assistant", "content": "Hello", "annotations": [], "audio": None},
    ],
)
@pytest.mark.parametrize("finish", [{"finish_reason": None}, {}, {"finish_reason": "stop"}])
def test_3_a_sparse_choice_is_still_an_answer(message, finish, connect, fault_server):
    fault_server.script(reply(json=completion(choices=[{"message": message, **finish}])))
    answer = connect(fault_server).chat.completions.create(model="m", messages=QUESTION)
    assert answer.choices[0].message.content == "Hello"
