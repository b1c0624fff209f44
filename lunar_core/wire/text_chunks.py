"""Reads chunks that differ from the one before only in their text, by comparing bytes. Nearly all of a stream do. Pure.

Decoding a chunk again, only to add its three letters to a completion, costs twenty times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_core import from_json, to_json

_MOST_BYTES = 4 * 1024
"""The size of the largest chunk that is worth learning: chunks of a stream are small, or few."""


class TextChunks:
    """Knows the bytes before and after the text of one chunk. ``key``: ``content`` or ``text``."""

    def __init__(self) -> None:
        self.key = ""
        self.index = 0
        self._before = b""
        self._behind = b""

    def learn(self, payload: bytes, chunk: Mapping[str, object]) -> None:
        """Learn ``payload``, which decodes to ``chunk``, if another of its form would add its text and nothing else."""
        text_place = _only_text(chunk) if len(payload) <= _MOST_BYTES else None
        if text_place is None:
            return
        index, key, text = text_place
        encoded = to_json(text)
        # Not once: the text is encoded in another way, or stands in another field too.
        if payload.count(encoded) == 1:
            before, _, behind = payload.partition(encoded)
            self.key, self.index = key, index
            self._before, self._behind = before + b'"', b'"' + behind

    def read(self, payloads: Sequence[bytes]) -> list[str]:
        """The texts of the first payloads, up to one that differs from the learned chunk in more than its text."""
        pieces = self._cut_out(payloads)
        try:
            texts = from_json(b'["' + b'","'.join(pieces) + b'"]') if pieces else []
        except ValueError:
            texts = []
        return texts if len(texts) == len(pieces) else self._read_singly(pieces)

    def _cut_out(self, payloads: Sequence[bytes]) -> list[bytes]:
        before, behind = self._before, self._behind
        start, end = len(before), -len(behind)
        pieces: list[bytes] = []
        for payload in payloads if before else ():
            if not (payload.startswith(before) and payload.endswith(behind)):
                break
            if len(payload) < start - end:
                break
            pieces.append(payload[start:end])
        return pieces

    def _read_singly(self, pieces: list[bytes]) -> list[str]:
        """The texts up to a piece that is not the inside of exactly one JSON string."""
        texts: list[str] = []
        for piece in pieces:
            try:
                texts.append(from_json(b'"' + piece + b'"'))
            except ValueError:
                break
        return texts


def _only_text(chunk: Mapping[str, object]) -> tuple[int, str, str] | None:
    """Index, key and text of the only choice. None if a chunk of this form would change anything else, too."""
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    if chunk.get("usage") is not None or choice.get("logprobs") is not None:
        return None  # each chunk adds to these
    index, delta = choice.get("index", 0), choice.get("delta")
    key, holder = ("text", choice) if delta is None else ("content", delta)
    if type(index) is not int or not isinstance(holder, dict):
        return None
    text = holder.get(key)
    if not isinstance(text, str) or not text:
        return None
    if delta is not None and any(
        value is not None for name, value in delta.items() if name not in ("role", "content")
    ):
        return None
    return index, key, text
