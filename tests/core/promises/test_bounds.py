"""Promise 22: whatever a server sends, memory stays bounded."""

import itertools
import json
import threading
import tracemalloc
import zlib

import pytest

from lunar_core import (
    APIResponseValidationError,
    APIStatusError,
    ConfigurationError,
    InternalServerError,
    Limits,
    ResponseTooLargeError,
)
from lunar_core.wire import deltas
from tests.faults_steps import (
    DONE,
    chunk,
    completion,
    encode,
    endless,
    gzip_bomb,
    gzipped,
    head,
    reply,
    spoken,
    sse,
    wait,
)

MIB = 1 << 20
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}
JSON = ["content-type: application/json"]
BUFFERED = (
    32 * MIB
)  # what the sockets of both sides may hold, and those of a proxy between, at most


@pytest.fixture
def peak():
    """The most memory, in bytes, that Python held since this was last asked."""
    tracemalloc.start()

    def most():
        most_so_far = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        return most_so_far

    yield most
    tracemalloc.stop()


def chunked(*steps, status=200, headers=()):
    def begin(connection):
        connection.send_raw(head(status, [*JSON, "transfer-encoding: chunked", *headers]))
        connection.chunked = True

    return [begin, *steps]


BODIES = {
    "endless": chunked(endless(b"x" * 65_536)),
    "endless JSON": chunked(b'{"id": "', endless(b"x" * 65_536)),
    "endless white space": chunked(endless(b" " * 65_536)),
    "longer than it may be": [
        head(200, [*JSON, f"content-length: {200 * MIB}"]),
        endless(b" " * MIB),
    ],
    "a bomb of gzip": reply(200, gzip_bomb(256 * MIB), [*JSON, "content-encoding: gzip"]),
    "a bomb of deflate": reply(
        200, gzipped(bytes(256 * MIB), wbits=15), [*JSON, "content-encoding: deflate"]
    ),
}


@pytest.mark.parametrize("answer", BODIES.values(), ids=BODIES)
def test_22_a_body_is_read_to_32_mib_and_no_further(answer, connect, way, fault_server, peak):
    fault_server.always(answer)
    client = connect(fault_server, max_retries=2, fallbacks=["another"])
    peak()
    with pytest.raises(ResponseTooLargeError):
        way.ask(client)
    assert peak() < 100 * MIB
    assert fault_server.sent < 32 * MIB + BUFFERED
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        chunked(endless(b"x" * 65_536), status=500),
        reply(500, gzip_bomb(256 * MIB), ["content-encoding: gzip"]),
        [head(500, [f"content-length: {200 * MIB}"]), endless(b"x" * 65_536)],
    ],
    ids=["endless", "a bomb", "long"],
)
def test_22_an_error_is_still_that_error_however_long_its_body(
    answer, connect, way, fault_server, peak
):
    fault_server.script(answer)
    client = connect(fault_server)
    peak()
    with pytest.raises(InternalServerError):
        way.ask(client)
    assert peak() < 4 * MIB
    assert fault_server.sent < BUFFERED


def test_22_a_bomb_in_a_bomb_is_not_even_opened(connect, way, fault_server, peak):
    bomb = gzipped(gzip_bomb(256 * MIB))
    fault_server.script(reply(200, bomb, [*JSON, "content-encoding: gzip, gzip"]))
    client = connect(fault_server)
    peak()
    with pytest.raises(APIResponseValidationError, match="gzip, gzip"):
        way.ask(client)
    assert peak() < 4 * MIB


def test_22_an_errors_reason_is_read_up_to_the_bound(connect, way, fault_server):
    fault_server.script(chunked(b"because ", endless(b"x" * 65_536), status=400))
    with pytest.raises(APIStatusError, match="because") as caught:
        way.ask(connect(fault_server))
    assert len(json.dumps(caught.value.body)) <= 64 * 1024 + 2


EVENTS = {
    "a line without end": sse(b"data: ", endless(b"x" * 65_536)),
    "a comment without end": sse(b": ", endless(b"x" * 65_536)),
    "a field without end": sse(endless(b"x" * 65_536)),
    "data lines without end": sse(endless(b"data: %b\n" % (b"x" * 400) * 160)),
    "a line of gzip": sse(gzipped(b"data: " + bytes(64 * MIB)), headers=["content-encoding: gzip"]),
}


@pytest.mark.parametrize("answer", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("before", [False, True], ids=["at first", "after text"])
def test_22_an_event_is_read_to_16_mib_and_no_further(before, answer, connect, fault_server, peak):
    if before and answer is EVENTS["a line of gzip"]:
        text = encode(chunk("Hel"))
        answer = sse(
            gzipped(text + b"data: " + bytes(64 * MIB)), headers=["content-encoding: gzip"]
        )
    elif before:
        answer = [answer[0], encode(chunk("Hel")), *answer[1:]]
    fault_server.always(answer)
    client = connect(fault_server, max_retries=2, fallbacks=["another"])
    peak()
    text = ""
    with pytest.raises(ResponseTooLargeError):  # noqa: PT012  # it may fail anywhere in here
        for part in client.chat.completions.create(**QUESTION, stream=True):
            text += part.choices[0].delta.content or ""
    assert text == ("Hel" if before else "")
    assert peak() < 64 * MIB
    assert fault_server.sent < 16 * MIB + BUFFERED
    assert len(fault_server.requests) == 1


def test_22_empty_data_lines_count_as_what_they_were_on_the_wire(connect, fault_server, peak):
    fault_server.always(sse(endless(b"data:\n" * 10_000)))
    client = connect(fault_server, limits=Limits(event=MIB))
    peak()
    with pytest.raises(ResponseTooLargeError):
        list(client.chat.completions.create(**QUESTION, stream=True))
    assert peak() < 16 * MIB


def test_22_what_is_within_the_bounds_is_read(connect, way, fault_server):
    text = "Hello " + "x" * (12 * MIB)
    fault_server.script(way.answer(text))
    assert way.ask(connect(fault_server)).choices[0].message.content == text


@pytest.mark.parametrize(
    "encoding", ["gzip", "gzip in two parts", "deflate", "raw deflate", "x-gzip", "identity"]
)
def test_22_compressed_answers_are_read(encoding, connect, way, fault_server):
    wbits = {"deflate": 15, "raw deflate": -15}.get(encoding, 31)
    body = (
        b"".join(map(encode, spoken("Hello")))
        if way.streamed
        else json.dumps(completion("Hello")).encode()
    )
    raw = body if encoding == "identity" else gzipped(body, wbits=wbits)
    if encoding == "gzip in two parts":
        raw = gzipped(body[:20]) + gzipped(body[20:])
    kind = "text/event-stream" if way.streamed else "application/json"
    name = {"raw deflate": "deflate", "gzip in two parts": "gzip"}.get(encoding, encoding)
    fault_server.script(reply(200, raw, [f"content-type: {kind}", f"content-encoding: {name}"]))
    assert way.ask(connect(fault_server)).choices[0].message.content == "Hello"


def test_22_a_compressed_stream_is_handed_over_as_it_arrives(connect, fault_server):
    go_on, deflate = threading.Event(), zlib.compressobj(wbits=31)
    first = deflate.compress(encode(chunk("Hel"))) + deflate.flush(zlib.Z_SYNC_FLUSH)
    rest = deflate.compress(b"".join(map(encode, spoken("lo")))) + deflate.flush()
    fault_server.script(sse(first, wait(go_on), rest, headers=["content-encoding: gzip"]))
    chunks = iter(connect(fault_server).chat.completions.create(**QUESTION, stream=True))
    assert next(chunks).choices[0].delta.content == "Hel"
    go_on.set()
    assert "".join(part.choices[0].delta.content or "" for part in chunks) == "lo"


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        (Limits(body=1_000), lambda: reply(json=completion("x" * 1_000))),
        (Limits(body=1_000), lambda: chunked(json.dumps(completion("x" * 1_000)).encode())),
    ],
)
def test_22_the_bound_of_a_body_is_a_setting(limits, answer, connect, fault_server):
    fault_server.always(answer())
    with pytest.raises(ResponseTooLargeError, match=r"1,?000"):
        connect(fault_server, limits=limits).chat.completions.create(**QUESTION)
    assert connect(fault_server).chat.completions.create(**QUESTION)


def test_22_the_bound_of_an_event_is_a_setting(connect, fault_server):
    fault_server.always(sse(*spoken("x" * 1_000)))
    client = connect(fault_server, limits=Limits(event=1_000))
    with pytest.raises(ResponseTooLargeError, match=r"1,?000"):
        list(client.chat.completions.create(**QUESTION, stream=True))
    assert list(connect(fault_server).chat.completions.create(**QUESTION, stream=True))


def test_22_the_bound_of_an_error_body_is_a_setting(connect, way, fault_server):
    fault_server.always(reply(400, "because " * 100))
    with pytest.raises(APIStatusError) as caught:
        way.ask(connect(fault_server, limits=Limits(error_body=100)))
    assert len(caught.value.body) <= 100


@pytest.mark.parametrize("bound", [0, -1, 1.5, "1", None, True])
@pytest.mark.parametrize("name", ["body", "error_body", "event"])
def test_22_a_bound_that_is_none_is_refused(name, bound, connect, fault_server):
    with pytest.raises(ConfigurationError, match=name):
        connect(fault_server, limits=Limits(**{name: bound}))


def test_22_a_long_stream_takes_no_more_memory_than_a_short_one(connect, fault_server, peak):
    beat = encode(chunk("", x_padding="x" * 5_000)) + b": ping\n\n"
    client = connect(fault_server)

    def heights(beats):
        fault_server.script(
            sse(chunk("Hi"), *itertools.repeat(beat * 10, beats // 10), chunk(finish="stop"), DONE)
        )
        count = 0
        for _part in client.chat.completions.create(**QUESTION, stream=True):
            count += 1
        assert count == beats + 2
        return peak()

    heights(100)
    short = heights(100)
    assert heights(2_400) < short + 4 * MIB  # of the 12 that went by


def test_22_no_lot_of_a_stream_that_is_put_together_at_once_is_large(
    connect, fault_server, monkeypatch
):
    """Or the event loop would stand still: 5 ms are some thousand chunks."""
    lots, fold = [], deltas.Assembly.fold

    def count(assembly):
        lots.append(len(assembly._tape))
        fold(assembly)

    monkeypatch.setattr(deltas.Assembly, "fold", count)
    words = [encode(chunk(f" w{number}")) for number in range(20_000)]
    fault_server.script(sse(b"".join(words), chunk(finish="stop"), DONE))
    stream = connect(fault_server).chat.completions.create(**QUESTION, stream=True)
    answer = stream.get_final_completion()
    assert len(answer.choices[0].message.content) > 60_000
    assert max(lots) < 2_000


def test_22_a_bombs_later_pieces_are_never_inflated(connect, fault_server, peak):
    """Not even into a buffer of the inflater's own."""
    bomb = gzip_bomb(256 * MIB)
    fault_server.script(sse(bomb, headers=["content-encoding: gzip"]))
    client = connect(fault_server)
    peak()
    with pytest.raises(ResponseTooLargeError):
        list(client.chat.completions.create(**QUESTION, stream=True))
    assert peak() < 64 * MIB
