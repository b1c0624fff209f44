"""Eighteen streams, legal or broken, that decoders are known to read wrong.

Right is: all of the text, or for a broken one, an error after the text that came before.
https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Hazard:
    name: str
    body: bytes
    text: str
    """Every character of it must arrive, in the end or before the error."""
    broken: bool = False
    """Whether it must end in an error."""


def _data(delta: dict[str, object], finish: str | None = None, **more: object) -> str:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini"}
    chunk = {**head, "system_fingerprint": "fp", "choices": choices, **more}
    return json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))


def _says(text: str) -> str:
    return _data({"role": "assistant", "content": text})


_ONE, _TWO, _STOP = _says("one "), _says("two"), _data({}, "stop")
_USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def _stream(*payloads: str, end: str = "\n", name: str = "data: ") -> bytes:
    return "".join(f"{name}{payload}{end}{end}" for payload in payloads).encode()


def _with_text(name: str, text: str) -> Hazard:
    return Hazard(name, _stream(_says(text), _STOP, "[DONE]"), text)


def _legal(name: str, body: bytes) -> Hazard:
    return Hazard(name, body, "one two")


def _broken(name: str, *payloads: str) -> Hazard:
    return Hazard(name, _stream(*payloads), "one ", broken=True)


_WHOLE = (_ONE, _TWO, _STOP, "[DONE]")
# One event whose data lines are the lines of a pretty-printed chunk.
_LINES = "\n".join(f"data: {line}" for line in json.dumps(json.loads(_ONE), indent=1).splitlines())

HAZARDS = [
    _with_text("U+2028 in the text", "a\u2028b"),
    _with_text("U+0085 in the text", "a\u0085b"),
    _with_text("U+2028 and an end in the text", "a\u2028data: [DONE]\u2028b"),
    _with_text("characters of four bytes", "🌙 Mond, 月"),
    _legal("a byte order mark", b"\xef\xbb\xbf" + _stream(*_WHOLE)),
    _legal("no space after data:", _stream(*_WHOLE, name="data:")),
    _legal("several data lines", f"{_LINES}\n\n".encode() + _stream(_TWO, _STOP, "[DONE]")),
    _legal("comments", b": hello\n\n" + _stream(_ONE) + b": still there\n" + _stream(*_WHOLE[1:])),
    _legal("event, id and retry", _stream(*_WHOLE, name="event: message\nid: 7\nretry: 5\ndata: ")),
    _legal("CRLF", _stream(*_WHOLE, end="\r\n")),
    _legal("CR", _stream(*_WHOLE, end="\r")),
    _legal("no blank line at the end", _stream(*_WHOLE).rstrip(b"\n")),
    _legal("nothing but a finish reason at the end", _stream(*_WHOLE[:-1])),
    _legal(
        "usage on a chunk without choices",
        _stream(
            *_WHOLE[:-1],
            json.dumps({**json.loads(_STOP), "choices": [], "usage": _USAGE}),
            "[DONE]",
        ),
    ),
    _broken(
        "an error in the middle", _ONE, '{"error":{"message":"overloaded","code":529}}', "[DONE]"
    ),
    _broken("a detail in the middle", _ONE, '{"detail":"all providers failed"}', "[DONE]"),
    _broken("a chunk that is no JSON", _ONE, '{"id":"c","choi', _TWO, _STOP, "[DONE]"),
    _broken("cut off", _ONE),
]
