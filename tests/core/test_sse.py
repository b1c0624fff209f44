"""Server-sent events from bytes, by the WHATWG rules, wherever the network cuts them.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lunar_core import ResponseTooLargeError
from lunar_core.wire.sse import SSEDecoder

BOM = "\ufeff"


def decoded(body, *, ended=False):
    """The events of a body that comes in one read."""
    decoder = SSEDecoder()
    events = decoder.feed(body.encode() if isinstance(body, str) else body)
    return events + (decoder.flush() if ended else [])


# The specification's own examples, in its order


def test_whatwg_three_messages_of_which_one_has_two_lines():
    body = (
        "data: This is the first message.\n\n"
        "data: This is the second message, it\n"
        "data: has two lines.\n\n"
        "data: This is the third message.\n\n"
    )
    assert decoded(body) == [
        b"This is the first message.",
        b"This is the second message, it\nhas two lines.",
        b"This is the third message.",
    ]


def test_whatwg_events_with_types_of_their_own():
    body = "event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\nevent: add\ndata: 113411\n\n"
    assert decoded(body) == [b"73857293", b"2153", b"113411"]


def test_whatwg_a_stock_price_in_three_lines_of_data():
    assert decoded("data: YHOO\ndata: +2\ndata: 10\n\n") == [b"YHOO\n+2\n10"]


def test_whatwg_a_comment_ids_and_one_leading_space():
    body = (
        ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n"
    )
    assert decoded(body) == [b"first event", b"second event"]
    assert decoded(body + "\n") == [b"first event", b"second event", b" third event"]


def test_whatwg_lines_with_a_field_name_alone():
    assert decoded("data\n\ndata\ndata\n\ndata:") == [b"", b"\n"]


def test_whatwg_the_space_after_the_colon_is_optional():
    assert decoded("data:test\n\ndata: test\n\n") == [b"test", b"test"]


# What looks like a whole event and is not


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        ([b'data: {"says": "', b'data: x"}\n\n'], [b'{"says": "data: x"}']),
        ([b"data: a\n", b"data: b\n\n"], [b"a\nb"]),
        ([b"data: a\ndata: b\n\n"], [b"a\nb"]),
        ([b"data: a\rdata: b\n\n"], [b"a\nb"]),
        ([b"data: a\r", b"data: b\n\n"], [b"a\nb"]),
        ([b"data: a\n\ndata: b\n\n"], [b"a", b"b"]),
        ([b"data: a\n\n\n", b"data: b\n\n"], [b"a", b"b"]),
        ([b"event: ping\n", b"data: a\n\n"], []),
        ([b": x", b"data: a\n\n", b"data: b\n\n"], [b"b"]),
        ([b"data: a\n\r", b"data: b\n\n"], [b"a", b"b"]),
    ],
)
def test_a_read_that_looks_like_a_whole_event_is_read_in_its_place(pieces, events):
    for before in ([], [b"data: first\n\n"], [b"data: first\n\n", b"data: second\n\n"]):
        decoder = SSEDecoder()
        seen = [event for piece in [*before, *pieces] for event in decoder.feed(piece)]
        assert seen == [piece[6:-2] for piece in before] + events


def test_no_read_is_a_whole_event_once_an_error_was_named():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\n") == [b"a"]
    assert decoder.feed(b"event: error\n") == decoder.feed(b"data: b\n\n") == []
    assert decoder.error == b"b"
    assert decoder.feed(b"data: c\n\n") == []


# Other things that servers do


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (": keep-alive\n\n: keep-alive\n\ndata: a\n\n", [b"a"]),
        ("id: 1\ndata: a\n\n: keep-alive\n\n\ndata: b\n\n", [b"a", b"b"]),
        ("retry: 3000\n\ndata: a\n\n", [b"a"]),
        ("event: ping\n\ndata: a\n\n", [b"a"]),
        ("unknown: field\ndata: a\n\n", [b"a"]),
        ("DATA: a\n\ndata: b\n\n", [b"b"]),
        (" data: a\n\ndata: b\n\n", [b"b"]),
        ("data : a\n\ndata: b\n\n", [b"b"]),
        ("\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [b"a", b"b"]),
        ("data: a: b: c\n\n", [b"a: b: c"]),
        ("data:\n\n", [b""]),
        (f"{BOM}data: a\n\n", [b"a"]),
        (f"{BOM}{BOM}data: a\n\ndata: b\n\n", [b"b"]),
        (f"data: {BOM}a\n\n", [f"{BOM}a".encode()]),
        ("data: a\u2028b\u2029c\x85d\x0be\x0cf\n\n", ["a\u2028b\u2029c\x85d\x0be\x0cf".encode()]),
        ("data: a\r\rdata: b\n\ndata: c\r\n\r\ndata: d\n\r\n", [b"a", b"b", b"c", b"d"]),
        ("", []),
    ],
)
def test_a_legal_stream_is_read_as_it_was_meant(body, events):
    assert decoded(body) == events


def test_an_event_is_handed_on_with_the_last_byte_of_its_blank_line():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\r\n\r") == [b"a"]
    assert decoder.feed(b"\ndata: b\r\n") == []
    assert decoder.feed(b"\r") == [b"b"]


def test_done_ends_the_stream_and_what_follows_is_ignored():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\ndata: [DONE]\n\ndata: b\n\n") == [b"a"]
    assert decoder.done
    assert decoder.feed(b"data: c\n\n") == decoder.flush() == []


def test_done_within_a_text_ends_nothing():
    assert decoded('data: {"text": "[DONE]"}\n\ndata: [DONE]s\n\n') == [
        b'{"text": "[DONE]"}',
        b"[DONE]s",
    ]


@pytest.mark.parametrize("done", ["[DONE] ", " [DONE]", "[DONE]\t"])
def test_white_space_round_done_changes_nothing(done):
    for body in (f"data: {done}\n\n", f"data: a\n\ndata: {done}\n\ndata: b\n\n"):
        decoder = SSEDecoder()
        assert decoder.feed(b"data: before\n\n") == [b"before"]
        assert b"b" not in decoder.feed(body.encode())
        assert decoder.done


def test_an_error_behind_done_comes_too_late():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\ndata: [DONE]\n\nevent: error\ndata: late\n\n") == [b"a"]
    assert (decoder.done, decoder.error) == (True, None)


def test_done_may_come_in_pieces():
    decoder = SSEDecoder()
    assert [decoder.feed(piece) for piece in (b"data: a\n\ndata: [DO", b"NE]\n", b"\n")] == [
        [b"a"],
        [],
        [],
    ]
    assert decoder.done


@pytest.mark.parametrize("beat", ["ping", "heartbeat", "keepalive", "keep-alive"])
def test_beats_that_keep_a_stream_alive_are_no_events(beat):
    ping = f'event: {beat}\ndata: {{"type": "ping"}}\n\n'
    assert decoded(f"{ping}data: a\n\n{ping}event: message\ndata: b\n\n") == [b"a", b"b"]


def test_an_event_named_error_ends_the_stream_and_is_kept():
    decoder = SSEDecoder()
    assert decoder.feed(b"data: a\n\nevent: error\ndata: overloaded\n\ndata: b\n\n") == [b"a"]
    assert decoder.error == b"overloaded"
    assert not decoder.done
    assert decoder.feed(b"data: c\n\n") == []


def test_the_name_of_an_event_without_data_does_not_pass_to_the_next():
    assert decoded("event: error\n\ndata: a\n\n") == [b"a"]


def test_a_last_event_without_its_blank_line_is_had_at_the_end():
    assert decoded("data: a\n\ndata: b", ended=True) == [b"a", b"b"]
    assert decoded("data: a\n\ndata: b\n", ended=True) == [b"a", b"b"]
    assert decoded("data: a\n\n: bye", ended=True) == [b"a"]
    decoder = SSEDecoder()
    assert decoder.feed(b"data: [DONE]") + decoder.flush() == []
    assert decoder.done


# Wherever the bytes are cut

LINES = st.text(
    st.sampled_from(["a", " ", ":", "{", '"', "é", "😀", "\u2028", "\u2029", "\x85", BOM, "\0"]),
    max_size=8,
).filter(lambda line: line != "[DONE]")
NOISE = st.sampled_from(
    [": comment", "id: 7", "retry: 10", "event: chunk", "x: y", ":", ": data: no"]
)
EVENTS = st.lists(
    st.tuples(st.lists(LINES, min_size=1, max_size=3), st.lists(NOISE, max_size=2), st.booleans()),
    max_size=6,
)
ENDS = st.lists(st.sampled_from(["\n", "\r", "\r\n"]), min_size=1, max_size=5)


def written(events, ends, *, bom):
    """The stream of these events, its line ends taken in turn from `ends`."""
    end = itertools.cycle(ends)
    body = BOM if bom else ""
    for data, noise, spaced in events:
        space = " " if spaced or any(line.startswith(" ") for line in data) else ""
        for line in [*noise, *(f"data:{space}{line}" for line in data), ""]:
            # A lone LF right behind a CR would be the second half of one line end.
            chosen = next(end)
            body += line + (
                "\r\n" if not line and body.endswith("\r") and chosen == "\n" else chosen
            )
    return body.encode()


@given(EVENTS, ENDS, st.booleans(), st.data())
@example([(["\u2028"], [], True)], ["\r\n"], True, None)
def test_where_the_bytes_are_cut_does_not_matter(events, ends, bom, data):
    body = written(events, ends, bom=bom)
    expected = ["\n".join(lines).encode() for lines, _noise, _spaced in events]
    cuts = range(len(body)) if data is None else data.draw(st.sets(st.integers(0, len(body))))
    edges = [0, *sorted(cuts), len(body)]
    decoder, seen = SSEDecoder(), []
    for start, stop in itertools.pairwise(edges):
        seen += decoder.feed(body[start:stop])
    assert seen == expected


@given(st.binary(max_size=300), st.data())
def test_even_of_noise_the_cut_makes_no_difference(body, data):
    cut = data.draw(st.integers(0, len(body)))
    whole, parts = SSEDecoder(), SSEDecoder()
    assert whole.feed(body) + whole.flush() == (
        parts.feed(body[:cut]) + parts.feed(body[cut:]) + parts.flush()
    )


# How long, and how large

KIB = 1024
MIB = 1024 * KIB


def seconds_for(body, size):
    """The processor's time for a body in reads of `size` bytes: the best of three."""

    def once():
        decoder = SSEDecoder()
        started = time.process_time()
        for start in range(0, len(body), size):
            decoder.feed(body[start : start + size])
        return time.process_time() - started

    return min(once() for _ in range(3))


@pytest.mark.parametrize("line", [b"x" * 64, b"\ndata: " + b"x" * 57], ids=["one line", "many"])
def test_a_large_event_in_small_reads_takes_time_in_proportion(line):
    small, large = (b"data: " + line * (size // 64) for size in (MIB, 8 * MIB))
    # Eight times the bytes: 8 in proportion, 64 if each read looked at all that came before.
    assert seconds_for(large, 256) < 28 * seconds_for(small, 256)


@pytest.mark.parametrize(
    "unending",
    [b"data: " + b"x" * 999, b": " + b"x" * 999, b"data: " + b"x" * 80 + b"\n", b"data:\n", b"x"],
    ids=["a line", "a comment", "lines of data", "empty lines of data", "a field's name"],
)
def test_an_event_larger_than_the_bound_is_refused_while_it_comes(unending):
    decoder, reads = SSEDecoder(max_event_bytes=10_000), iter([unending] * 20_000)
    with pytest.raises(ResponseTooLargeError, match="10,000"):
        list(map(decoder.feed, reads))
    taken = 20_000 - len(list(reads))
    assert taken * len(unending) <= 70_000


def test_the_bound_is_for_one_event_not_for_the_stream():
    decoder = SSEDecoder(max_event_bytes=1_000)
    for body in (b"data: " + b"x" * 990 + b"\n\n", b"data: " + b"y" * 400 + b"\n\n") * 100:
        assert decoder.feed(body) == [body[6:-2]]


def test_many_events_in_one_read_may_exceed_it_together():
    body = (b"data: " + b"x" * 990 + b"\n\n") * 100
    assert len(SSEDecoder(max_event_bytes=1_000).feed(body)) == 100
    with pytest.raises(ResponseTooLargeError):
        SSEDecoder(max_event_bytes=900).feed(body)


VAST = b"data: " + b"x" * 1_000


@pytest.mark.parametrize("vast", [VAST, VAST + b"\n", VAST + b"\n\n", VAST + b"\n\ndata: b\n\n"])
@pytest.mark.parametrize("first", [b"data: a\n\n", b"data: a\n\n: b\n"])
def test_what_came_whole_before_one_that_is_too_large_is_handed_out(first, vast):
    decoder = SSEDecoder(max_event_bytes=900)
    assert decoder.feed(first + vast) == [b"a"]
    with pytest.raises(ResponseTooLargeError):
        decoder.feed(b"\n\n")
    decoder = SSEDecoder(max_event_bytes=900)
    assert decoder.feed(first) == [b"a"]
    with pytest.raises(ResponseTooLargeError):
        decoder.feed(vast)
