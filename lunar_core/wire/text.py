"""Replaces surrogates in text, so that JSON and UTF-8 can carry it. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping


def join_surrogates(text: str) -> str:
    r"""``text`` with each surrogate pair joined to one character; a lone surrogate becomes U+FFFD.

    >>> join_surrogates("caf\udce9"), join_surrogates("\ud83d\ude00") == "\U0001f600"
    ('caf\ufffd', True)
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def join_all_surrogates(value: object) -> object:
    """The same for every string in ``value``, keys of dicts included."""
    if isinstance(value, str):
        return join_surrogates(value)
    if isinstance(value, Mapping):
        return {join_all_surrogates(k): join_all_surrogates(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [join_all_surrogates(item) for item in value]
    return value


class SurrogateJoiner:
    """Joins surrogate pairs (an emoji, say) whose halves came in two events of a stream.

    A half at the end of a text is held back for the next event. One that stays alone becomes U+FFFD.
    """

    def __init__(self) -> None:
        self._halves: dict[tuple[object, ...], str] = {}  # by choice and field

    def is_concerned_by(self, data: bytes) -> bool:
        """Whether ``feed`` may change ``data``, which is one payload or many."""
        if b"\\" not in data:  # one byte is found thirty times as fast as three
            return bool(self._halves)
        return bool(self._halves) or rb"\ud" in data or rb"\uD" in data

    def feed(self, payload: bytes) -> bytes:
        """``payload``, the data of an event, with whole characters only."""
        if not self.is_concerned_by(payload):
            return payload
        try:
            event = json.loads(payload)
        except (ValueError, RecursionError):
            return payload  # its reader raises
        choices = event.get("choices") if isinstance(event, dict) else None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._join_choice(choice)
        return json.dumps(join_all_surrogates(event), ensure_ascii=False).encode()

    def _join_choice(self, choice: dict[str, object]) -> None:
        index, delta = choice.get("index") or 0, choice.get("delta")
        self._join(choice, (index, "text"), only="text")
        if not isinstance(delta, dict):
            return
        self._join(delta, (index,))
        pieces = delta.get("tool_calls")
        for piece in pieces if isinstance(pieces, list) else ():
            for holder in ("function", "custom") if isinstance(piece, dict) else ():
                if isinstance(piece.get(holder), dict):
                    self._join(piece[holder], (index, piece.get("index"), holder))
        if choice.get("finish_reason"):
            for key in [key for key in self._halves if key[0] == index and len(key) == 2]:
                delta[str(key[1])] = f"{delta.get(str(key[1])) or ''}{self._halves.pop(key)}"

    def _join(
        self, fields: dict[str, object], place: tuple[object, ...], *, only: str | None = None
    ) -> None:
        for name in list(fields) if only is None else [only]:
            text, key = fields.get(name), (*place, name) if only is None else place
            if isinstance(text, str) and text:
                text = self._halves.pop(key, "") + text
                if "\ud800" <= text[-1] <= "\udbff":
                    text, self._halves[key] = text[:-1], text[-1]
                fields[name] = text
