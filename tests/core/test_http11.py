"""HTTP/1.1 from bytes: what an answer's head says of its body, and where bodies end. h11 is the judge of chunks."""

from itertools import pairwise

import h11
import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import Lunar
from lunar_core.client.http11 import (
    ChunkedBodyReader,
    Exchange,
    Request,
    SizedBodyReader,
    UnsizedBodyReader,
)


def request(body=b"", **headers):
    named = [(b"host", b"127.0.0.1"), (b"content-length", b"%d" % len(body))]
    named += [(name.encode(), value) for name, value in headers.items()]
    return Request(b"POST", b"/v1/x", named, body)


def answered(head, *more):
    """The exchange and the head, fed with these reads."""
    exchange = Exchange()
    exchange.encode(request())
    found = exchange.take_head(head)
    for read in more:
        found = exchange.take_head(read)
    return exchange, found


@pytest.mark.parametrize(
    ("base_url", "host", "target"),
    [
        ("https://gateway.example", b"gateway.example", ""),
        ("https://gateway.example:443/", b"gateway.example", ""),
        ("https://gateway.example:8443/eu", b"gateway.example:8443", "/eu"),
        ("http://127.0.0.1:80", b"127.0.0.1", ""),
        ("http://[::1]:8080/v1", b"[::1]:8080", ""),
        ("https://b\u00fccher.example/\u00e4/%41", b"xn--bcher-kva.example", "/%C3%A4/%41"),
    ],
)
def test_a_request_goes_where_base_url_says(base_url, host, target):
    with Lunar("pk", base_url=base_url) as client:
        call, plan = client._planner.providers("openai/gpt-4o")
        request = client._requests.build(next(plan).request, call.timeout, call)
    assert request.url.raw_path.decode() == f"{target}/v1/providers?model=openai%2Fgpt-4o"
    assert request.headers.raw[0] == (b"host", host)


def test_a_request_is_written_as_it_is():
    (whole,) = Exchange().encode(request(b"{}", accept=b"*/*"))
    assert whole == (
        b"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\naccept: */*\r\n\r\n{}"
    )


def test_a_large_body_is_not_copied_behind_its_head():
    body = b"x" * 100_000
    head, second = Exchange().encode(request(body))
    assert head.endswith(b"content-length: 100000\r\n\r\n")
    assert second is body


def test_a_head_is_whole_when_its_blank_line_has_come():
    exchange, head = answered(b"HTTP/1.1 200 OK\r\nx-a: 1\r\nX-A: 2\r\nContent-Le")
    assert head is None
    head = exchange.take_head(b"ngth: 5\r\n\r\nhel")
    assert (head.status, head.headers) == (
        200,
        [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"5")],
    )
    assert exchange.came_with_head == b"hel"


def test_interim_answers_are_passed_over():
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    _, head = answered(early, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    assert (head.status, head.headers) == (200, [(b"content-length", b"0")])


@pytest.mark.parametrize("at_once", [True, False])
def test_they_have_an_end(at_once):
    early, whole = b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 204 No\r\n\r\n"

    def reads(count):
        return [early * count] if at_once else [early] * count

    _, head = answered(*reads(1_000), whole)
    assert head.status == 204
    with pytest.raises(httpcore.RemoteProtocolError, match="more than 1,000 times 1xx"):
        answered(*reads(1_001), whole)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
    ],
    ids=lambda sent: repr(sent[:50]),
)
def test_what_is_no_answer_is_an_error(sent):
    with pytest.raises(httpcore.RemoteProtocolError):
        answered(sent)


BODIES = {
    b"HTTP/1.1 204 No Content\r\ncontent-length: 5": SizedBodyReader,
    b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked": SizedBodyReader,
    b"HTTP/1.1 200 OK\r\ncontent-length: 5": SizedBodyReader,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked": ChunkedBodyReader,
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked": ChunkedBodyReader,
    b"HTTP/1.1 200 OK\r\nx: y": UnsizedBodyReader,
    b"HTTP/1.0 200 OK\r\nx: y": UnsizedBodyReader,
}


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"220 mail ready\r\n", b"-ERR unknown", b"HTTQ"]
)
def test_a_server_of_another_protocol_is_known_by_its_first_bytes(greeting):
    with pytest.raises(httpcore.RemoteProtocolError, match="does not speak HTTP"):
        answered(greeting)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_head_may_come_in_any_pieces(cut):
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    assert answered(head[:cut], head[cut:])[1].status == 200
    assert answered(b"HTTP/1.1 100 Continue\r\n\r\n" + head[:cut], head[cut:])[1].status == 200


@pytest.mark.parametrize(("head", "kind"), BODIES.items(), ids=repr)
def test_the_head_says_how_the_body_is_read(head, kind):
    exchange, _ = answered(head + b"\r\n\r\n")
    assert type(exchange.body) is kind


@pytest.mark.parametrize(
    ("head", "reads", "follows"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2", [b"hi"], True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive, x", [b"hi"], True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", [b"2\r\nhi\r\n0\r\n\r\n"], True),
        (b"HTTP/1.1 204 No Content", [], True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2", [b"h"], False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2", [b"hi!"], False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", [b"2\r\nhi\r\n0\r\n"], False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", [b"0\r\n\r\nHTTP/1.1"], False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: x, Close", [b"hi"], False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2", [b"hi"], False),
        (b"HTTP/1.1 200 OK\r\nx: y", [b"hi", b""], False),
    ],
)
def test_another_request_follows_where_this_answer_ended_clean(head, reads, follows):
    exchange, _ = answered(head + b"\r\n\r\n")
    for read in reads:
        exchange.body.take(read)
    assert exchange.is_over is follows
    exchange.cut_short = True
    assert not exchange.is_over


def test_nor_where_more_came_than_belongs_to_an_empty_answer():
    exchange, _ = answered(b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK")
    assert (exchange.body.done, exchange.is_over) == (True, False)


def read_all(body, reads):
    """What a body is, and how it came out."""
    text = b""
    try:
        for read in reads:
            if body.done:
                break
            text += body.take(read)
    except httpcore.RemoteProtocolError:
        return text, "broken"
    return text, "whole" if body.done else "unfinished"


def cut(data, points):
    edges = sorted({0, len(data), *(point % (len(data) + 1) for point in points)})
    return [data[start:end] for start, end in pairwise(edges)]


CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
ASIDES = st.sampled_from([b"", b" ", b";a=b", b';n="q\xc3"', b";"])
TRAILERS = st.sampled_from([b"", b"x-cost: 1\r\n", b"a: b\r\nc: d\r\n"])


@st.composite
def chunked(draw):
    """A body in chunks, and what it says."""
    chunks = draw(CHUNKS)
    lines = [
        b"%x%b\r\n%b\r\n" % (len(chunk), draw(ASIDES), chunk) for chunk in chunks
    ]  # fmt: skip
    return b"".join(lines) + b"0" + draw(ASIDES) + b"\r\n" + draw(TRAILERS) + b"\r\n", chunks


@given(chunked(), st.lists(st.integers(0, 400), max_size=30))
def test_where_chunks_are_cut_does_not_matter(body, points):
    data, chunks = body
    assert read_all(ChunkedBodyReader(), cut(data, points)) == (b"".join(chunks), "whole")


@given(chunked(), st.integers(0, 400))
def test_chunks_that_end_early_are_never_whole(body, at):
    data, chunks = body
    text, outcome = read_all(ChunkedBodyReader(), [data[: at % len(data)], b""])
    assert outcome == "broken"
    assert b"".join(chunks).startswith(text)


def by_h11(reads):
    """The same body as h11 reads it."""
    judge = h11.Connection(h11.CLIENT)
    judge.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    judge.send(h11.EndOfMessage())
    judge.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    text = b""
    try:
        for read in [b"", *reads]:
            if read:
                judge.receive_data(read)
            while (event := judge.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Data):
                    text += bytes(event.data)
                if isinstance(event, h11.EndOfMessage):
                    return text, "whole"
    except h11.RemoteProtocolError:
        return text, "broken"
    return text, "unfinished"


@given(
    chunked(),
    st.integers(0, 400),
    st.binary(min_size=1, max_size=2),
    st.lists(st.integers(0, 400), max_size=9),
)
def test_no_body_is_read_otherwise_than_h11_reads_it(body, at, garbage, points):
    data, _ = body
    spot = at % len(data)
    reads = [*cut(data[:spot] + garbage + data[spot + 1 :], points), b"\r\n\r\n"]
    theirs, ours = by_h11(reads), read_all(ChunkedBodyReader(), reads)
    assert ours == theirs or ours[1] == "broken"


@pytest.mark.parametrize("line", [b"x" * 5_000, b"5;" + b"x" * 5_000, b"0\r\n" + b"x" * 5_000])
def test_a_line_without_an_end_is_not_waited_for(line):
    assert read_all(ChunkedBodyReader(), [line]) == (b"", "broken")


def test_trailers_without_an_end_are_not_waited_for():
    trailers = [b"0\r\n", *[b"x-more: trailers\r\n" * 100] * 50, b"\r\n"]
    assert read_all(ChunkedBodyReader(), trailers) == (b"", "broken")
    assert read_all(ChunkedBodyReader(), [*trailers[:20], b"\r\n"]) == (b"", "whole")


@pytest.mark.parametrize(
    "line", [b"hello\r\n", b"-1\r\n", b"0x5\r\n", b"1_0\r\n", b"\r\n", b"5\n", b" 5\r\n"]
)
def test_what_is_no_size_begins_no_chunk(line):
    text, outcome = read_all(ChunkedBodyReader(), [line, b"12345\r\n0\r\n\r\n"])
    assert (text, outcome) == (b"", "broken")


def test_a_sized_body_ends_with_its_last_byte():
    body = SizedBodyReader(5)
    assert [body.take(b"hel"), body.take(b"lo, you")] == [b"hel", b"lo"]
    assert (body.done, body.excess) == (True, True)
    with pytest.raises(httpcore.RemoteProtocolError, match="3 bytes before"):
        SizedBodyReader(3).take(b"")
