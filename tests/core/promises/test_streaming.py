"""Promises 11 to 14: what a stream says arrives whole and at once, or with an error."""

import json
import random
import threading
import time

import pytest

from lunar_core import (
    APIConnectionError,
    APIResponseValidationError,
    APIStreamError,
    APITimeoutError,
    LunarError,
)
from tests.faults_steps import (
    DONE,
    USAGE,
    body_of,
    chunk,
    close,
    completion,
    cut,
    gzipped,
    hang,
    head,
    patience,
    reply,
    reset,
    spoken,
    sse,
    wait,
)

QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}


def opened(client, **options):
    return client.chat.completions.create(**QUESTION, stream=True, **options)


def text_of(chunks):
    """The seed's own loop: no chunk makes it fail."""
    text = ""
    for part in chunks:
        text += part.choices[0].delta.content or ""
    return text


def until_it_fails(client, **options):
    """The text that came, and the error that came after it."""
    text = ""
    with pytest.raises(LunarError) as caught:  # noqa: PT012  # it may fail anywhere in here
        for part in opened(client, **options):
            text += part.choices[0].delta.content or ""
    return text, caught.value


HEL, LO, END = (json.dumps(event) for event in (chunk("Hel"), chunk("lo"), chunk(finish="stop")))
LO_IN_LINES = json.dumps(chunk("lo"), indent=1).replace("\n", "\ndata: ")
DIALECTS = {
    "line feeds": f"data: {HEL}\n\ndata: {LO}\n\ndata: {END}\n\ndata: [DONE]\n\n",
    "CR LF": f"data: {HEL}\r\n\r\ndata: {LO}\r\n\r\ndata: {END}\r\n\r\ndata: [DONE]\r\n\r\n",
    "CR": f"data: {HEL}\r\rdata: {LO}\r\rdata: {END}\r\rdata: [DONE]\r\r",
    "mixed line ends": f"data: {HEL}\n\r\ndata: {LO}\r\n\rdata: {END}\r\n\ndata: [DONE]\n\r",
    "a byte order mark": f"\ufeffdata: {HEL}\n\ndata: {LO}\n\ndata: {END}\n\ndata: [DONE]\n\n",
    "no space": f"data:{HEL}\n\ndata:{LO}\n\ndata:{END}\n\ndata:[DONE]\n\n",
    "comments": f": ping\n\ndata: {HEL}\n: x\n\n:\n\ndata: {LO}\n\ndata: {END}\n\ndata: [DONE]\n\n",
    "several data lines": (
        f"data: {HEL}\n\ndata: {LO_IN_LINES}\n\ndata: {END}\n\ndata: [DONE]\n\n"
    ),
    "several data lines, CR LF": (
        f"data: {HEL}\n\ndata: {LO_IN_LINES}\n\ndata: {END}\n\ndata: [DONE]\n\n"
    ).replace("\n", "\r\n"),
    "other fields": (
        f"id: 1\nevent: message\nretry: 10\ndata: {HEL}\n\nid\ndata: {LO}\nfoo: bar\n\n"
        f"data: {END}\n\nevent: done\ndata: [DONE]\n\n"
    ),
    "events without data": (
        f"event: ping\n\ndata: {HEL}\n\nid: 7\n\n\n\ndata: {LO}\n\ndata: {END}\n\ndata: [DONE]\n\n"
    ),
    "no blank line at the end": f"data: {HEL}\n\ndata: {LO}\n\ndata: {END}\n\ndata: [DONE]\n",
}


@pytest.mark.parametrize("body", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_11_every_legal_way_to_write_events_is_read(size, body, connect, fault_server):
    raw = body.encode()
    fault_server.script(sse(*cut(raw, *range(size, len(raw), size))))
    assert text_of(opened(connect(fault_server))) == "Hello"


@pytest.mark.parametrize(
    "text",
    [
        "é ü 漢字 🌙",
        "\u2028 separators of lines \u2029 in other standards \u0085 and \x1c \x0b \x0c",
        "a false end: \u2028data: [DONE]\u2028\u2028 more",
        "data: {}\r\n\r\ndata: [DONE]\n\n",
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_11_characters_may_be_cut_and_only_cr_and_lf_end_lines(size, text, connect, fault_server):
    raw = body_of(*spoken(text))
    fault_server.script(sse(*cut(raw, *range(size, len(raw), size))))
    assert text_of(opened(connect(fault_server))) == text


def test_11_forty_random_cuttings_give_one_text(connect, fault_server):
    text = "Straße, naïve \u2028 漢字 🌙 data: {} \r\n\n end"
    raw = body_of(": ping\r\n\r\n", *spoken(*text)).replace(b"}\n\n", b"}\r\n\r\n")
    client = connect(fault_server)
    for seed in range(40):
        points = random.Random(seed).sample(range(1, len(raw)), k=1 + 5 * seed)  # noqa: S311  # the same cuts each time
        fault_server.script(sse(*cut(raw, *points)))
        assert text_of(opened(client)) == text, f"seed {seed}"


def test_12_text_is_handed_over_while_the_server_has_more_to_say(connect, fault_server):
    go_on = threading.Event()
    fault_server.script(sse(chunk("Hel"), wait(go_on), chunk("lo"), *spoken()))
    stream = opened(connect(fault_server))
    chunks = iter(stream)
    assert next(chunks).choices[0].delta.content == "Hel"
    go_on.set()
    assert text_of(chunks) == "lo"


CUT_OFF = (APIStreamError, APIConnectionError)
FAULTS = {
    "reset": (reset, CUT_OFF),
    "closed": (close, CUT_OFF),
    "silence": (hang, APITimeoutError),
    "an error event": ({"error": {"message": "overloaded"}}, APIStreamError),
    "a named error event": ("event: error\ndata: overloaded\n\n", APIStreamError),
    "a named error event in JSON": (
        'event: error\ndata: {"id": "x", "message": "overloaded"}\n\n',
        APIStreamError,
    ),
    "an error on a chunk": (chunk("", error={"message": "overloaded"}), APIStreamError),
    "an error where Groq puts it": (chunk("", x_groq={"error": "overloaded"}), APIStreamError),
    "an error on a chunk without choices": (
        {"id": "x", "choices": [], "error": "overloaded"},
        APIStreamError,
    ),
    "a detail": ({"detail": "overloaded"}, APIStreamError),
    "a detail beside known fields": ({"id": "x", "detail": "overloaded"}, APIStreamError),
    "cut JSON": (f"data: {LO[:-9]}\n\n", APIStreamError),
    "no JSON": ("data: overloaded\n\n", APIStreamError),
    "a list": ("data: []\n\n", APIStreamError),
    "null": ("data: null\n\n", APIStreamError),
    "choices of the wrong kind": (chunk(choices="lo"), APIStreamError),
    "bytes that are no UTF-8": (b'data: {"choices": "\xff"}\n\n', APIStreamError),
    "JSON too deep to read": ("data: " + "[" * 100_000 + "\n\n", APIStreamError),
}


@pytest.mark.parametrize(("fault", "kind"), FAULTS.values(), ids=FAULTS)
def test_12_text_received_before_a_fault_is_delivered_before_the_error(
    fault, kind, connect, fault_server
):
    fault_server.script(sse(chunk("Hel"), chunk("lo", usage=USAGE), fault, *spoken("!")))
    text, error = until_it_fails(connect(fault_server, timeout=patience(fault)))
    assert text == "Hello"
    assert isinstance(error, kind)
    assert error.partial.choices[0].message.content == "Hello"
    assert error.partial.usage.total_cost_usd == 0.000045


@pytest.mark.parametrize(
    "fault",
    [close, {"detail": "overloaded"}, "data: {\n\n", "event: error\ndata: overloaded\n\n"],
    ids=["closed", "a detail", "a malformed chunk", "a named error event"],
)
def test_12_so_is_text_that_came_in_the_same_packet_as_the_fault(fault, connect, fault_server):
    packet = body_of(chunk("Hel"), chunk("lo"))
    if not callable(fault):
        packet, fault = packet + body_of(fault), close
    fault_server.script(sse(packet, fault))
    text, error = until_it_fails(connect(fault_server))
    assert text == "Hello"
    assert error.partial.choices[0].message.content == "Hello"


def test_12_so_is_text_in_the_same_packet_as_bytes_that_cannot_be_inflated(connect, fault_server):
    good = gzipped(body_of(chunk("Hel"), chunk("lo")))
    packet = good + b"no second member of gzip"
    fault_server.script(sse(packet, headers=["content-encoding: gzip"]))
    text, error = until_it_fails(connect(fault_server, max_retries=2))
    assert text == "Hello"
    assert error.partial.choices[0].message.content == "Hello"
    assert len(fault_server.requests) == 1


def test_12_a_chunk_cut_off_by_the_end_is_not_taken_for_text(connect, fault_server):
    fault_server.script(sse(chunk("Hel"), f"data: {LO}"[:-20], chunked=False))
    text, error = until_it_fails(connect(fault_server))
    assert text == "Hel"
    assert isinstance(error, CUT_OFF)


def test_13_done_ends_the_stream_even_if_the_socket_stays_open(connect, fault_server):
    fault_server.script(sse(*spoken("Hello"), hang))
    started = time.monotonic()
    assert text_of(opened(connect(fault_server))) == "Hello"
    assert time.monotonic() - started < 5  # it might have been ten minutes
    connect.wait_until(lambda: fault_server.open == 0)


@pytest.mark.parametrize("done", ["data: [DONE] \n\n", "data:  [DONE]\n\n", "data:[DONE]\t\n\n"])
def test_13_white_space_round_done_changes_nothing(done, connect, fault_server):
    *events, _done = spoken("Hello")
    fault_server.script(sse(*events, done, hang))
    assert text_of(opened(connect(fault_server))) == "Hello"


@pytest.mark.parametrize("late", [chunk(" again"), {"detail": "late"}, "data: {\n\n"], ids=repr)
def test_13_nothing_after_done_is_read_as_text(late, connect, fault_server):
    client = connect(fault_server)
    for events in (spoken("Hello"), [body_of(*spoken("Hello"), late)]):
        fault_server.script(sse(*events, late))
        assert text_of(opened(client)) == "Hello"


def test_13_half_an_event_behind_the_finish_is_no_error(connect, fault_server):
    """Say, of the usage that comes last: the answer is whole."""
    half = body_of(chunk(choices=[], usage=USAGE))[:-20]
    fault_server.script(sse(chunk("Hello"), chunk(finish="stop"), half, chunked=False))
    stream = opened(connect(fault_server))
    assert text_of(stream) == "Hello"
    assert stream.usage is None


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "until closed"])
def test_13_a_finish_reason_is_an_end_without_done(framed, connect, fault_server):
    fault_server.script(sse(chunk("Hello"), chunk(finish="stop", usage=USAGE), chunked=framed))
    stream = opened(connect(fault_server))
    assert text_of(stream) == "Hello"
    assert stream.get_final_completion().usage.total_cost_usd == 0.000045


@pytest.mark.parametrize("beat", ["ping", "heartbeat", "keepalive", "keep-alive"])
def test_14_beats_that_keep_a_stream_alive_are_no_chunks(beat, connect, fault_server):
    ping = f'event: {beat}\ndata: {{"type": "ping"}}\n\n'
    fault_server.script(sse(ping, chunk("Hel"), ping, ping, chunk("lo"), *spoken(), ping))
    assert text_of(opened(connect(fault_server))) == "Hello"


LABELS = [
    "application/json",
    "application/octet-stream",
    "text/event-stream; charset=utf-8",
    "text/html; charset=utf-8",
    "text/plain",
    None,
]


@pytest.mark.parametrize("label", LABELS)
def test_14_events_are_events_whatever_the_server_calls_them(label, connect, fault_server):
    headers = [f"content-type: {label}"] if label else []
    fault_server.script(reply(200, body_of(*spoken("Hel", "lo")), headers))
    assert text_of(opened(connect(fault_server))) == "Hello"


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(
    "before", ["", "\ufeff", " \r\n\n"], ids=["", "after a mark", "after space"]
)
def test_14_so_is_a_completion_that_was_not_streamed_at_all(before, label, connect, fault_server):
    headers = [f"content-type: {label}"] if label else []
    whole = before.encode() + json.dumps(completion("Hello"), indent=1).encode()
    fault_server.script([head(200, [*headers, f"content-length: {len(whole)}"]), *cut(whole, 1, 7)])
    stream = opened(connect(fault_server))
    assert text_of(stream) == "Hello"
    assert stream.usage.total_cost_usd == 0.000045


@pytest.mark.parametrize("framed", [True, False], ids=["framed", "until closed"])
def test_13_a_stream_that_ends_with_neither_is_an_error(framed, connect, fault_server):
    fault_server.script(sse(chunk("Hel"), chunk("lo"), chunked=framed))
    text, error = until_it_fails(connect(fault_server))
    assert text == "Hello"
    assert isinstance(error, APIStreamError)
    assert error.partial.choices[0].message.content == "Hello"


@pytest.mark.parametrize(
    "events",
    [[], [DONE], [": ping\n\n"], ["\n\n\n"], [chunk(choices=[], usage=USAGE), DONE]],
    ids=["nothing", "only done", "only comments", "only blank lines", "only usage"],
)
@pytest.mark.parametrize("framed", [True, False], ids=["framed", "until closed"])
def test_13_an_empty_stream_is_an_error(framed, events, connect, fault_server):
    fault_server.script(sse(*events, chunked=framed))
    text, error = until_it_fails(connect(fault_server))
    assert (text, type(error)) == ("", APIStreamError)


@pytest.mark.parametrize(
    "answer",
    [
        reply(json={"detail": "overloaded"}),
        reply(200, "<html>overloaded</html>", ["content-type: text/html"]),
        reply(200, '{"detail": "overloaded"}', ["content-type: text/event-stream"]),
        reply(200, "overloaded", ["content-type: text/event-stream"]),
    ],
    ids=["JSON", "HTML", "JSON that claims to be events", "text that claims to be events"],
)
def test_14_something_else_in_place_of_events_is_an_error(answer, connect, fault_server):
    fault_server.script(answer)
    text, error = until_it_fails(connect(fault_server))
    assert text == ""
    assert isinstance(error, APIResponseValidationError | APIStreamError)
    assert "overloaded" in str(error)


USAGE_PLACES = {
    "a chunk without choices": [chunk("Hi"), chunk(finish="stop"), chunk(choices=[], usage=USAGE)],
    "null choices": [chunk("Hi"), chunk(finish="stop"), chunk(choices=None, usage=USAGE)],
    "missing choices": [chunk("Hi"), chunk(finish="stop"), {"id": "x", "usage": USAGE}],
    "the last chunk with choices": [chunk("Hi"), chunk(finish="stop", usage=USAGE)],
    "every chunk": [chunk("Hi", usage={"prompt_tokens": 10}), chunk(finish="stop", usage=USAGE)],
    "before the finish": [chunk("Hi", usage=USAGE), chunk(finish="stop", usage=None)],
}


@pytest.mark.parametrize("events", USAGE_PLACES.values(), ids=USAGE_PLACES)
def test_14_usage_and_cost_are_on_the_stream_wherever_the_server_puts_them(
    events, connect, fault_server
):
    fault_server.script(sse(*events, DONE))
    stream = opened(connect(fault_server))
    seen = list(stream)
    assert text_of(seen) == "Hi"
    assert all(part.choices for part in seen)
    assert any(part.usage and part.usage.total_cost_usd == 0.000045 for part in seen)
    final = stream.get_final_completion()
    assert final.choices[0].message.content == "Hi"
    assert (final.usage.total_tokens, str(final.usage.cost)) == (30, "0.000045")


def test_14_a_stream_that_says_nothing_of_usage_leaves_it_unknown(connect, fault_server):
    fault_server.script(sse(*spoken("Hi", usage=None)))
    stream = opened(connect(fault_server))
    assert text_of(stream) == "Hi"
    assert stream.get_final_completion().usage is None


@pytest.mark.parametrize(
    "sparse",
    [
        {"choices": [{"delta": {}}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"index": 0}]},
        {"choices": [{"delta": {"content": None, "role": None, "tool_calls": None}}]},
        {"choices": []},
        {"choices": None},
        {"id": "x"},
    ],
)
def test_14_the_seeds_own_loop_reads_every_sparse_chunk(sparse, connect, fault_server):
    fault_server.script(sse(sparse, chunk("Hel"), sparse, chunk("lo"), *spoken()))
    assert text_of(opened(connect(fault_server))) == "Hello"


def test_14_a_stream_that_breaks_off_is_an_attempt_that_failed(connect, fault_server):
    fault_server.script(sse(chunk("Hel"), reset))
    stream = opened(connect(fault_server))
    assert stream.call.attempts[-1].error is None
    with pytest.raises(APIStreamError) as broken:
        list(stream)
    assert "APIStreamError" in broken.value.attempts[-1].error


def test_14_an_error_of_null_on_a_chunk_is_no_error(connect, fault_server):
    fault_server.script(sse(chunk("Hel", error=None), chunk("lo", detail=None), *spoken()))
    assert text_of(opened(connect(fault_server))) == "Hello"
