"""Server-sent events from bytes, by the WHATWG rules.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
Lines end at LF, CR or CRLF and nowhere else: U+2028 and its like are text.
"""

from __future__ import annotations

from lunar_core.errors import ResponseTooLargeError

_BOM = b"\xef\xbb\xbf"
_NEXT_EVENT = b"\n\ndata: "
_DONE = b"[DONE]"
_CR = 0x0D
BEATS = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
"""Names of events that only keep a connection alive, whatever their data."""
_BEATS = {beat.encode() for beat in BEATS}


def _is_one_event(data: bytes) -> bool:
    """Whether ``data`` is exactly one event in its plainest form, as most reads of a stream are."""
    return (
        data.find(b"\n") == len(data) - 2
        and data.endswith(b"\n")
        and data.startswith(b"data: ")
        and _CR not in data
    )


class SSEDecoder:
    r"""Takes reads of any size, and returns the data of each event that they complete.

    ``done``: ``data: [DONE]`` was read. ``error``: the data of an ``event: error``. Either ends the stream, and what
    follows is ignored.

    >>> decoder = SSEDecoder()
    >>> decoder.feed(b'data: {"a": 1}\n\nda'), decoder.feed(b'ta: 2\n\ndata: [DONE]\n\n')
    ([b'{"a": 1}'], [b'2'])
    >>> decoder.done
    True
    """

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self.done = False
        self.error: bytes | None = None
        self._max = max_event_bytes
        self._start = b""  # the first bytes, while they may still become a BOM
        self._started = False
        self._after_cr = False
        self._line: list[bytes] = []  # an unfinished line, in pieces: joined once
        self._data: list[bytes] = []  # the data lines of an unfinished event
        self._data_size = 0
        self._event = b""
        self._size = 0  # bytes held back so far
        self._overflow = False
        # Whether only complete events have come, so that the next byte begins one.
        self._between = False

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that ``data`` completes. Raises ResponseTooLargeError."""
        if self._between and _is_one_event(data) and len(data) <= self._max:
            payload = data[6:-2]
            if _DONE not in payload:
                return [payload]
        if self._is_over:
            return []
        self._refuse_overflow()
        if not self._started:
            data = self._without_bom(data)
        if self._after_cr or b"\r" in data:
            data = self._with_plain_line_ends(data)
        held_back = bool(self._line or self._data)
        events = self._whole_events(data)
        if events is None:
            events = self._lines(data)
        if events:
            # Only the first event may have begun in an earlier read. (rfind, because [DONE] stands at the end.)
            self._end_at_done(events, len(events) if data.rfind(_DONE) >= 0 else int(held_back))
        if not events:
            self._refuse_overflow()
        self._between = self._started and not (
            self._line or self._data or self._event or self._after_cr or self._is_over
        )
        return events

    def _end_at_done(self, events: list[bytes], suspects: int) -> None:
        for number, event in enumerate(events[:suspects]):
            if event.rfind(_DONE) >= 0 and event.strip() == _DONE:
                self.done, self.error = True, None
                del events[number:]
                return

    @property
    def _is_over(self) -> bool:
        return self.done or self.error is not None

    def flush(self) -> list[bytes]:
        """Take the end of the stream. Returns the last event, if the server left out the blank line after it."""
        return self.feed(b"\n\n")

    def _without_bom(self, data: bytes) -> bytes:
        data = self._start + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._started = True
        return data.removeprefix(_BOM)

    def _with_plain_line_ends(self, data: bytes) -> bytes:
        # A CR ends its line at once: waiting to see whether LF follows would hold the event back.
        if data and self._after_cr:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _whole_events(self, data: bytes) -> list[bytes] | None:
        """The fast path for what servers nearly always send: ``data: …`` and a blank line, repeated.

        None for anything else.

        One split finds the events; the number of line ends proves that there is nothing between them.
        """
        if self._data or self._event or b"\n" not in data:
            return None
        end = data.rfind(b"\n\n")
        if end < 0:
            return None
        # Bytes held back are an unfinished line: they belong to the first event.
        first, *events = data[:end].split(_NEXT_EVENT)
        first = b"".join([*self._line, first]) if self._line else first
        if not first.startswith(b"data: ") or data.count(b"\n", 0, end) != 2 * len(events):
            return None
        events.insert(0, first[6:])
        if len(first) + end > self._max and max(map(len, events)) > self._max:
            return None
        self._line.clear()
        self._size = 0
        if end + 2 < len(data):
            events += self._lines(data[end + 2 :])
        return events

    def _lines(self, data: bytes) -> list[bytes]:
        """The slow path, which takes everything: comments, other fields, several data lines, partial lines."""
        if not data:
            return []
        if b"\n" not in data:
            self._line.append(data)
            self._size += len(data)
            self._overflow = self._size > self._max
            return []
        *lines, rest = b"".join([*self._line, data]).split(b"\n")
        self._line = [rest] if rest else []
        events: list[bytes] = []
        for line in lines:
            if line:
                self._field(line)
            elif self._data:
                self._overflow = self._data_size > self._max
                if self._overflow:
                    return events
                events += self._dispatch()
                if self.error is not None:
                    return events
            else:
                self._event = b""
        self._size = len(rest) + self._data_size
        self._overflow = self._size > self._max
        return events

    def _dispatch(self) -> list[bytes]:
        payload, name = b"\n".join(self._data), self._event
        self._data, self._data_size, self._event = [], 0, b""
        if name == b"error":
            self.error = payload
        return [] if name == b"error" or name in _BEATS else [payload]

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            # The whole line counts, so that a million empty lines are too large.
            self._data_size += len(line) + 1
        elif name == b"event":
            self._event = value
        # A comment has no name; ``id`` and ``retry`` are for reconnecting, which would bill twice.

    def _refuse_overflow(self) -> None:
        """Raise for an event that is too large. Complete events that came with it are returned first."""
        if self._overflow:
            raise ResponseTooLargeError(
                f"an event of the stream is larger than {self._max:,} bytes"
            )
