"""Assembles the chunks of a stream into the completion that a plain call would return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic_core import from_json

from lunar_core.types.completions import ChatCompletion, Completion
from lunar_core.wire.content_parts import read_text, read_thinking
from lunar_core.wire.replay import SIGNED_FIELDS, THINKING_FIELD, join_signed
from lunar_core.wire.text_chunks import TextChunks
from lunar_core.wire.tool_calls import ToolCallAssembler, with_call_ids

_LOT = 64
"""How many payloads are compared at once: chunks of two alternating forms cost this many comparisons at most."""


class _ChoiceAssembly:
    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.fields: dict[str, object] = {}
        self.tool_calls = ToolCallAssembler()
        self.outer: dict[str, object] = {}

    def add(self, choice: Mapping[str, object]) -> None:
        for key, value in choice.items():
            if key == "delta" and isinstance(value, Mapping):
                self._add_delta(value)
            elif key == "text" and isinstance(value, str):
                self.add_text("text", value)
            elif key == "logprobs" and value is not None:
                self.outer[key] = _merge(self.outer.get(key), value)
            elif key not in ("delta", "index") and value is not None:
                self.outer[key] = value

    def _add_delta(self, delta: Mapping[str, object]) -> None:
        for key, value in delta.items():
            if key == "tool_calls":
                self.tool_calls.feed(value)
            elif key == "role" and value:
                self.fields["role"] = value
            elif isinstance(value, str):
                self.add_text(key, value)
            elif key == "content":
                self.add_text(key, read_text(value))
                self.add_text(THINKING_FIELD, read_thinking(value))
            elif value is not None:
                self.fields[key] = join_field(key, self.fields.get(key), value)

    def add_text(self, key: str, value: str) -> None:
        if value:
            self.texts.setdefault(key, []).append(value)

    @property
    def has_content(self) -> bool:
        return bool(self.texts or self.tool_calls or self.outer.get("finish_reason"))

    def value(
        self, index: int, kind: type[ChatCompletion | Completion], answer_id: object
    ) -> dict[str, object]:
        texts = {key: "".join(pieces) for key, pieces in self.texts.items()}
        if kind is Completion:
            return {"index": index, "text": "", "finish_reason": None, **self.outer, **texts}
        message: dict[str, object] = {"role": "assistant", "content": None, **self.fields, **texts}
        if self.tool_calls:
            message["tool_calls"] = with_call_ids(self.tool_calls.calls(), answer_id)
        return {"index": index, "message": message, "finish_reason": None, **self.outer}


_GROWING = {"arguments", "data", "transcript"}
"""Keys whose strings come in pieces inside objects: in ``function_call`` and in ``audio``."""


def join_field(key: str, old: object, new: object) -> object:
    """The value of a message's field after one more delta of a stream.

    >>> audio = {"id": "audio_1", "transcript": "Hel"}
    >>> join_field("audio", audio, {"id": "audio_1", "transcript": "lo"})
    {'id': 'audio_1', 'transcript': 'Hello'}
    """
    if key in SIGNED_FIELDS:
        return join_signed(old, new)
    return _add_text(old, new) if isinstance(new, str) else _merge(old, new)


def _merge(old: object, new: object) -> object:
    """``old`` and ``new`` as one value: lists are joined, objects merged key by key; else the last value counts."""
    if isinstance(old, list) and isinstance(new, list):
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            **old,
            **{
                key: _add_text(old.get(key), value)
                if key in _GROWING
                else _merge(old.get(key), value)
                for key, value in new.items()
                if value is not None
            },
        }
    return new


def _add_text(old: object, new: object) -> object:
    return old + new if isinstance(old, str) and isinstance(new, str) else new


class Assembly:
    """Takes the payloads of a stream's events, in order, and assembles the completion so far.

    Payloads are kept undecoded until the completion is needed, or until ``fold``: a reader of a short stream who never
    asks for the completion does not pay for it.
    """

    def __init__(self, kind: type[ChatCompletion | Completion]) -> None:
        self._kind = kind
        self._alike = TextChunks()
        self._tape: list[bytes] = []
        self._choices: dict[int, _ChoiceAssembly] = {}
        self._fields: dict[str, object] = {}

    def feed(self, payload: bytes) -> None:
        self._tape.append(payload)

    def add(self, chunk: Mapping[str, object]) -> None:
        """Add a chunk of decoded JSON."""
        for key, value in {**chunk, "usage": read_usage(chunk)}.items():
            # "" is no value: chunks that Azure adds about its filters have an empty model and id.
            if value not in (None, "") and key not in ("choices", "object", "error", "detail"):
                self._fields[key] = _settle(key, self._fields.get(key), value)
        for choice in _mappings(chunk.get("choices")):
            index = choice.get("index")
            self._choices.setdefault(index if isinstance(index, int) else 0, _ChoiceAssembly()).add(
                choice
            )

    def get(self, field: str, coming: Iterable[bytes] = ()) -> object:
        """A top-level field of the chunks so far (``usage``, ``routing``, ``model``, ``id``), or None.

        ``coming``: payloads that follow those. Only payloads that name the field are decoded, and only as many as
        needed.
        """
        name = f'"{field}"'.encode()
        value, payloads = self._fields.get(field), [*self._tape, *coming]
        for payload in payloads if field in _SETTLED else reversed(payloads):
            if payload.rfind(name) >= 0:  # faster than "in", most of all in megabytes
                chunk = _decode(payload)
                newer = _field_of(chunk, field) if chunk is not None else None
                if newer not in (None, ""):
                    value = _settle(field, value, newer)
                    if field not in _SETTLED:
                        break
        return value

    @property
    def has_content(self) -> bool:
        """Whether text, reasoning, a tool call or a ``finish_reason`` has come."""
        self.fold()
        return any(choice.has_content for choice in self._choices.values())

    @property
    def finished(self) -> bool:
        """Whether every choice has a ``finish_reason``."""
        self.fold()
        return bool(self._choices) and all(
            c.outer.get("finish_reason") for c in self._choices.values()
        )

    def value(self) -> dict[str, object]:
        """The completion so far, as decoded JSON."""
        self.fold()
        choices = [
            choice.value(index, self._kind, self._fields.get("id"))
            for index, choice in sorted(self._choices.items())
        ]
        return {**self._fields, "choices": choices}

    def fold(self) -> None:
        """Decode the payloads that are kept. Called at intervals, so that neither memory nor work piles up."""
        payloads, self._tape = self._tape, []
        at = 0
        while at < len(payloads):
            texts = self._alike.read(payloads[at : at + _LOT])
            if texts:
                self._choices[self._alike.index].add_text(self._alike.key, "".join(texts))
                at += len(texts)
                continue
            chunk = _decode(payloads[at])
            if chunk is not None:
                self.add(chunk)
                self._alike.learn(payloads[at], chunk)
            at += 1


def _decode(payload: bytes) -> dict[str, object] | None:
    try:
        chunk = from_json(payload)
    except ValueError:
        return None  # the reader of the stream gets the same payload, and raises
    return chunk if isinstance(chunk, dict) else None


def read_usage(chunk: Mapping[str, object]) -> object:
    """The ``usage`` of a chunk. Kimi states it in a choice.

    >>> read_usage({"choices": [{"index": 0, "delta": {}, "usage": {"prompt_tokens": 3}}]})
    {'prompt_tokens': 3}
    """
    usage = chunk.get("usage")
    if usage is not None:
        return usage
    stated = (choice.get("usage") for choice in _mappings(chunk.get("choices")))
    return next((usage for usage in stated if usage is not None), None)


def _field_of(chunk: Mapping[str, object], field: str) -> object:
    return read_usage(chunk) if field == "usage" else chunk.get(field)


_SETTLED = ("usage", "routing")


def _settle(field: str, old: object, new: object) -> object:
    """The value of a field after several chunks have stated it. For most fields the last one counts."""
    if field == "usage":
        return _merge(
            old, new
        )  # a last chunk with tokens only must not remove a cost stated earlier
    return old if field == "routing" and old is not None else new


def _mappings(value: object) -> Iterable[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
