"""HTTP/1.1 without a socket: turns a request into bytes, and bytes into a response. Pure.

h11 writes and reads the heads. Bodies are read here: h11 makes an object of every chunk, which was half of what a
streamed word cost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

import h11
import httpcore

_FIRST_BYTES = b"HTTP/"
"""Of the head of every response."""
_MAX_HEAD_BYTES = 100 * 1024
_MAX_LINE_BYTES = 4 * 1024  # the size of a chunk, or a trailer
_MAX_TRAILER_BYTES = 64 * 1024
_ONE_WRITE_BYTES = 64 * 1024
_MOST_INTERIM = 1_000  # heads of 1xx: a server may say "not yet" each second of a long call, and not without end
_CLOSE = re.compile(rb"(?:^|,)\s*close\s*(?:,|$)", re.IGNORECASE)

# RFC 9112, section 7.1. Extensions, behind a semicolon, mean nothing to anybody.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:;[^\r\n]*|[ \t]*)\r\n")
_END_AND_SIZE = re.compile(rb"\r\n" + _SIZE.pattern)
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n")


Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Request:
    """A request to write. ``target``: the path, with its query."""

    method: bytes
    target: bytes
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Head:
    """The head of a response. ``headers``: pairs with lower-case names, in the order in which they came."""

    status: int
    reason: bytes
    http_version: bytes
    headers: Headers


class Exchange:
    """One request and its response.

    Call ``encode`` once, then ``take_head`` with each read until it returns the head, then ``body.take`` with each
    read. Keeps nothing of the request, whose headers hold the key. Raises httpcore's protocol errors for bytes that are
    not HTTP.
    """

    def __init__(self) -> None:
        self.body: BodyReader = UnsizedBodyReader()
        self.came_with_head = b""
        """The part of the body that came in the same read as the end of the head."""
        self.cut_short = False
        """Set by the connection when it could not write the whole request."""
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._keeps_alive = False
        self._is_head_request = False
        self._interim = 0

    def encode(self, request: Request) -> list[bytes]:
        """The request as pieces to write one by one: mostly one piece, which is one packet."""
        self._is_head_request = request.method == b"HEAD"
        try:
            head = self._h11.send(
                h11.Request(method=request.method, target=request.target, headers=request.headers)
            )
        except h11.LocalProtocolError as error:
            raise httpcore.LocalProtocolError(str(error)) from None
        whole = len(request.body) <= _ONE_WRITE_BYTES
        return [(head or b"") + request.body] if whole else [head or b"", request.body]

    def take_head(self, data: bytes) -> Head | None:
        """The head of the response, or None while it is incomplete. ``data`` b"": the connection has ended."""
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
            while isinstance(event, h11.InformationalResponse):
                self._interim += 1
                if self._interim > _MOST_INTERIM:
                    raise httpcore.RemoteProtocolError(
                        f"no answer from the service: more than {_MOST_INTERIM:,} times 1xx, which is none yet"
                    )
                event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            why = f"it does not speak HTTP ({error})" if data else "it hung up"
            raise httpcore.RemoteProtocolError(f"no answer from the service: {why}") from None
        if not isinstance(event, h11.Response):
            self._refuse_other_protocols()
            return None
        headers = list(event.headers)
        named = dict(headers)
        self.body = self._choose_body_reader(event.status_code, named)
        self.came_with_head = self._h11.trailing_data[0]
        self.body.excess = self.body.done and self.came_with_head != b""
        self._keeps_alive = (
            event.http_version >= b"1.1"
            and type(self.body) is not UnsizedBodyReader  # which the end of the connection ends
            and not any(name == b"connection" and _CLOSE.search(value) for name, value in headers)
        )
        return Head(event.status_code, event.reason, b"HTTP/" + event.http_version, headers)

    def _refuse_other_protocols(self) -> None:
        """At once, if what has come of the head begins no HTTP: SSH, say, greets with one line and waits."""
        start = self._h11.trailing_data[0].lstrip(b"\r\n")[: len(_FIRST_BYTES)]
        if not _FIRST_BYTES.startswith(start):
            raise httpcore.RemoteProtocolError(
                f"no answer from the service: it does not speak HTTP (it begins with {start!r})"
            )

    def _choose_body_reader(self, status: int, headers: dict[bytes, bytes]) -> BodyReader:
        # h11 lets no coding through but "chunked", and no size that is none.
        if self._is_head_request or status in (204, 304):
            return SizedBodyReader(0)
        if b"transfer-encoding" in headers:
            return ChunkedBodyReader()
        if b"content-length" in headers:
            return SizedBodyReader(int(headers[b"content-length"]))
        return UnsizedBodyReader()

    @property
    def is_over(self) -> bool:
        """Whether the response was read to its end, and the connection can take another request."""
        return self.body.done and self._keeps_alive and not (self.cut_short or self.body.excess)


class BodyReader(Protocol):
    """Reads one body. ``done``: the body is complete. ``excess``: bytes came that do not belong to it."""

    done: bool
    excess: bool

    def take(self, data: bytes, /) -> bytes:
        """Return the part of the body that ``data`` holds. b"": the connection has ended.

        Raises RemoteProtocolError if the body is incomplete then.
        """


class UnsizedBodyReader:
    """Reads everything until the connection ends."""

    def __init__(self) -> None:
        self.done = self.excess = False

    def take(self, data: bytes) -> bytes:
        """All of ``data``."""
        self.done = not data
        return data


class SizedBodyReader:
    """Reads as many bytes as ``content-length`` says."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.done = size == 0
        self.excess = False

    def take(self, data: bytes) -> bytes:
        """The part of ``data`` that is still due."""
        if not data:
            raise _cut_off(f"{self._left:,} bytes before")
        piece = data[: self._left]
        self._left -= len(piece)
        self.done, self.excess = self._left == 0, len(piece) < len(data)
        return piece


class ChunkedBodyReader:
    """Reads chunks, each behind a line with its size. A size of 0, perhaps trailers, and an empty line end the body."""

    def __init__(self) -> None:
        self.done = self.excess = False
        self._left = 0  # bytes of the current chunk that are still due
        self._line = _SIZE  # the pattern of the line before the next chunk
        self._in_trailers = False
        self._trailer_bytes = 0
        self._rest = b""  # an incomplete line

    def take(self, data: bytes) -> bytes:
        """The chunks in ``data``, without their size lines, joined to one piece."""
        if not data:
            raise _cut_off("before")
        if self._rest:
            data, self._rest = self._rest + data, b""
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            end = self._after_trailer(data, at) if self._in_trailers else self._after_size(data, at)
            if end == at:
                self._rest = data[at:]
                break
            at = end
        self.excess = self.done and at < size
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _after_size(self, data: bytes, at: int) -> int:
        """Where the next chunk begins, or ``at`` if the line with its size is incomplete."""
        line = self._line.match(data, at)
        if line is None:
            return self._incomplete(data, at, b"\r\n" if self._line is _END_AND_SIZE else b"")
        self._line = _END_AND_SIZE
        self._left = int(line[1], 16)
        self._in_trailers = not self._left
        return line.end()

    def _after_trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self.done = True
            return at + 2
        line = _TRAILER.match(data, at)
        if line is None:
            return self._incomplete(data, at, b"")
        self._trailer_bytes += line.end() - at
        if self._trailer_bytes > _MAX_TRAILER_BYTES:
            raise httpcore.RemoteProtocolError("the service's trailers have no end")
        return line.end()

    def _incomplete(self, data: bytes, at: int, start: bytes) -> int:
        """Return ``at``. Raises RemoteProtocolError if the bytes there cannot become the line that is due."""
        began = data[at : at + len(start)]
        ended = data.find(b"\r\n", at + len(start)) >= 0 or len(data) - at > _MAX_LINE_BYTES
        if ended or not start.startswith(began):
            shown = data[at : at + 50]
            raise httpcore.RemoteProtocolError(
                f"the service does not speak HTTP: {shown!r} is no chunk"
            )
        return at


def _cut_off(where: str) -> httpcore.RemoteProtocolError:
    return httpcore.RemoteProtocolError(f"the service hung up {where} the end of its answer")
