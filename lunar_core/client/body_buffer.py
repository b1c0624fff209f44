"""Collects the bytes of a response body: decompressed, and bounded while they arrive. Pure.

httpx's own decoders have no bound: 128 KiB of gzip can become gigabytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from lunar_core.errors import ResponseTooLargeError

_STEP = 256 * 1024


class Inflater:
    """Undoes ``Content-Encoding`` piece by piece, at most 256 KiB at a time.

    Raises ValueError for an encoding that was not asked for, and for a body that is not encoded so.
    """

    def __init__(self, encoding: str | None) -> None:
        names = [name.strip().lower() for name in (encoding or "").split(",")]
        coded = [name for name in names if name not in ("", "identity")]
        if coded not in ([], ["gzip"], ["x-gzip"], ["deflate"]):
            # We ask for no other, so a server that uses one anyway cannot be read.
            raise ValueError(f"its Content-Encoding is {encoding!r}, which was not asked for")
        self._coded = coded[0] if coded else None
        self._zlib: zlib._Decompress | None = None

    def feed(self, piece: bytes) -> Iterable[bytes]:
        return (piece,) if self._coded is None else self._inflate(piece)

    def _inflate(self, piece: bytes) -> Iterator[bytes]:
        while piece:
            if self._zlib is None:
                self._zlib = zlib.decompressobj(self._window(piece))
            try:
                plain = self._zlib.decompress(piece, _STEP)
            except zlib.error as error:
                raise ValueError(f"it is not the {self._coded} it claims to be: {error}") from None
            if plain:
                yield plain
            piece = self._zlib.unconsumed_tail
            if self._zlib.eof:  # gzip allows another member to follow
                piece, self._zlib = self._zlib.unused_data, None

    def _window(self, start: bytes) -> int:
        # Some servers send "deflate" without the zlib header, whose first byte always ends in 8.
        bare = self._coded == "deflate" and start[0] & 0x0F != 8
        return -zlib.MAX_WBITS if bare else zlib.MAX_WBITS | 32


class BodyBuffer:
    """Collects a body up to ``limit`` bytes. What is longer is cut off there (``cut``) or refused."""

    def __init__(self, encoding: str | None, limit: int, *, cut: bool) -> None:
        self._inflater = Inflater(encoding)
        self._limit = limit
        self._cut = cut
        self._data = bytearray()  # not a list, which would hold an object for each small piece

    def feed(self, piece: bytes) -> bool:
        """Add a piece. Returns False when the limit is reached: nothing more is needed.

        Raises ResponseTooLargeError without ``cut``, and ValueError as Inflater does.
        """
        for plain in self._inflater.feed(piece):
            self._data += plain
            if len(self._data) > self._limit:
                if self._cut:
                    return False
                raise ResponseTooLargeError(f"the answer is larger than {self._limit:,} bytes")
        return True

    def value(self) -> bytes:
        return bytes(self._data[: self._limit] if self._cut else self._data)
