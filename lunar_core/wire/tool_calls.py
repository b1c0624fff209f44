"""Assembles tool calls that come in pieces: which call a piece belongs to, and what it adds.

One rule for all upstreams.

Pieces name their call by ``index``. Some upstreams number every call 0 or not at all, repeat the id or the name in each
piece, send the id late or never, split names, send ``{}`` before the arguments, or repeat all arguments at the end. Two
calls are told apart, in this order, by the index, by the id, and by a name that comes when the arguments before it are
complete.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_FIELDS = {"index", "id", "type", "function", "custom"}
_FUNCTION_FIELDS = {"name", "arguments"}
_MARKS = re.compile(r'\\.|\\$|["{}\[\]]', re.DOTALL)


@dataclass(frozen=True)
class ToolCallPart:
    """What a piece adds to the tool call ``number``. Strings are appended to what came before; None adds nothing.

    ``id`` comes once for each call. ``extra`` and ``function_extra``: the unknown fields of the call and of its
    function. ``type``: "function", or "custom" for a call whose ``arguments`` are free text.
    """

    number: int
    type: str = "function"
    id: str | None = None
    name: str | None = None
    arguments: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    function_extra: Mapping[str, object] = field(default_factory=dict)


def make_call_id(answer_id: str | None, place: int, name: str, arguments: str) -> str:
    """An id for a tool call that came without one of its own: the same for the same answer, plain or streamed.

    ``place``: the index of the call in the answer, from 0. Two calls of one answer never share an id.
    """
    text = json.dumps([answer_id, place, name, arguments])
    return f"call_{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def with_call_ids(calls: list[dict[str, object]], answer_id: object) -> list[dict[str, object]]:
    """``calls``, in the form of the API, each with an id: its own, or one that is made for it."""
    return [
        call if call.get("id") else {**call, "id": _call_id_of(call, place, answer_id)}
        for place, call in enumerate(calls)
    ]


def _call_id_of(call: Mapping[str, object], place: int, answer_id: object) -> str:
    marks = _Marks.read(call)
    stated = answer_id if isinstance(answer_id, str) else None
    return make_call_id(stated, place, marks.name or "", marks.text)


def settle_arguments(text: str) -> str:
    """The arguments of a whole call, by the rule for pieces: not twice, and without {} before the real ones.

    >>> settle_arguments('{}{"a": 1}'), settle_arguments('{"a": 1}{"a": 1}'), settle_arguments("null")
    ('{"a": 1}', '{"a": 1}', '{}')
    """
    call = _PartialCall(0, "")
    call.take(text)
    return call.arguments


def as_calls(calls: object) -> list[dict[str, object]]:
    """Tool calls, or pieces of them, in the usual form: a list of dicts with a ``function`` dict in each.

    Some upstreams send one call without a list, null or {} beside the calls, or the function's fields beside the id.

    >>> as_calls({"id": "c1", "name": "f", "arguments": "{}"})
    [{'id': 'c1', 'function': {'name': 'f', 'arguments': '{}'}}]
    """
    listed = calls if isinstance(calls, list) else [calls]
    return [_with_function(call) for call in listed if isinstance(call, dict) and call]


def _with_function(call: dict[str, object]) -> dict[str, object]:
    if "function" in call or "custom" in call or not call.keys() & _FUNCTION_FIELDS:
        return call
    function = {key: value for key, value in call.items() if key in _FUNCTION_FIELDS}
    return {**{k: v for k, v in call.items() if k not in _FUNCTION_FIELDS}, "function": function}


class ToolCallAssembler:
    """Takes the ``tool_calls`` of each delta of one choice, in order, and assembles the calls.

    >>> assembler = ToolCallAssembler()
    >>> first = {"index": 0, "function": {"name": "get_", "arguments": ""}}
    >>> assembler.feed([first])[0].name
    'get_'
    >>> _ = assembler.feed([{"index": 0, "id": "c1", "function": {"name": "time", "arguments": "{}"}}])
    >>> assembler.finish()[0].arguments
    '{}'
    >>> assembler.calls()
    [{'id': 'c1', 'type': 'function', 'function': {'name': 'get_time', 'arguments': '{}'}}]
    """

    def __init__(self) -> None:
        self._calls: dict[int, _PartialCall] = {}
        self._by_index: dict[
            int | str, _PartialCall
        ] = {}  # the upstream's index: the call that it means now
        self._last: _PartialCall | None = None

    def feed(self, pieces: object) -> list[ToolCallPart]:
        """What ``pieces``, the ``tool_calls`` of a delta, add to the calls.

        Anything that is no piece is skipped, and a piece that says nothing begins no call.
        """
        parts, named = [], set[int]()  # calls that this delta has named already
        for piece in as_calls(pieces):
            marks = _Marks.read(piece)
            if marks.are_empty and self._candidate(marks) is None and not _extra_of(piece):
                continue
            call = self._call_of(marks, named)
            if marks.id and any(c.id == marks.id for c in self._calls.values() if c is not call):
                marks = replace(marks, id=None)  # one of its own is made at the end
            if marks.name:
                named.add(call.number)
            parts.append(call.add(piece, marks))
        return parts

    def finish(self, answer_id: str | None = None) -> list[ToolCallPart]:
        """End the stream. Returns what was held back of each call, and ids for the calls that have none."""
        parts = [call.finish(answer_id, place) for place, call in enumerate(self._in_order())]
        return [part for part in parts if part is not None]

    def calls(self) -> list[dict[str, object]]:
        """Every call so far, in order, in the form of the API."""
        return [call.value() for call in self._in_order()]

    def numbers(self) -> list[int]:
        """The number of each call of ``calls()``."""
        return sorted(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def _in_order(self) -> list[_PartialCall]:
        return [call for _, call in sorted(self._calls.items())]

    def _call_of(self, marks: _Marks, named: set[int]) -> _PartialCall:
        call = self._candidate(marks)
        if call is None:
            call = self._open(marks.index)
        elif call.ends_before(marks, named_in_this_delta=call.number in named):
            # A new call without a name calls the same tool again.
            call = self._open(marks.index, call.name if marks.name is None else "")
        if marks.index is not None:
            self._by_index[marks.index] = call
        self._last = call
        return call

    def _candidate(self, marks: _Marks) -> _PartialCall | None:
        if marks.index is not None:
            return self._by_index.get(marks.index)
        if marks.id:
            same = next((call for call in self._calls.values() if call.id == marks.id), None)
            if same is not None:
                return same
            if self._last is not None and self._last.id:
                return None  # a new id without an index begins a new call
        return self._last

    def _open(self, index: int | str | None, name: str = "") -> _PartialCall:
        number = index if isinstance(index, int) and index not in self._calls else None
        if number is None:
            number = max(self._calls, default=-1) + 1
        call = self._calls[number] = _PartialCall(number, name)
        return call


@dataclass(frozen=True)
class _Marks:
    """What a piece says about the call that it belongs to, and the text that it adds."""

    index: int | str | None
    id: str | None
    name: str | None
    text: str

    @classmethod
    def read(cls, piece: Mapping[str, object]) -> _Marks:
        index, call_id = piece.get("index"), piece.get("id")
        function, custom = piece.get("function"), piece.get("custom")
        holder = custom if isinstance(custom, Mapping) else function
        holder = holder if isinstance(holder, Mapping) else {}
        name = holder.get("name")
        return cls(
            index if isinstance(index, (int, str)) else None,
            str(call_id) if isinstance(call_id, (int, str)) and call_id != "" else None,
            name if isinstance(name, str) and name else None,
            as_text(holder.get("input" if isinstance(custom, Mapping) else "arguments")),
        )

    @property
    def are_empty(self) -> bool:
        """Whether the piece has neither an id nor a name nor text."""
        return self.id is None and self.name is None and not self.text


class _PartialCall:
    """One tool call, as much of it as has come."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.id: str | None = None
        self.type = "function"
        self.name = ""
        self._unsaid_name = name  # to be handed out with the next part
        self._is_custom = False
        self.extra: dict[str, object] = {}
        self.function_extra: dict[str, object] = {}
        self._arguments: list[str] = []
        self._held = ""  # arguments that may turn out to be a placeholder or a repetition
        self._scan = _ObjectScan()
        self._is_empty = False  # whether the complete object so far is {}
        self._may_repeat = False  # whether the name came again after complete arguments

    def ends_before(self, marks: _Marks, *, named_in_this_delta: bool) -> bool:
        """Whether a piece with this call's number begins another call."""
        if marks.id and self.id and marks.id == self.id:
            return False
        if marks.name is None:
            ends = self._may_repeat and bool(marks.text.strip()) and not marks.id
            self._may_repeat = False
            return ends
        if named_in_this_delta or (marks.id and self.id):
            return True
        if not self._scan.is_whole:
            # Another name is a piece of this one or, after arguments, a call that cut this one off.
            return marks.name != self.name and bool(self._arguments)
        if marks.name == self.name and not marks.text.strip():
            # The name again, or a second call: the arguments will show which.
            self._may_repeat = not self._is_empty
            return False
        return True

    def add(self, piece: Mapping[str, object], marks: _Marks) -> ToolCallPart:
        function, custom = piece.get("function"), piece.get("custom")
        self._is_custom = self._is_custom or isinstance(custom, Mapping)
        stated = piece.get("type")
        self.type = stated if isinstance(stated, str) and stated else self.type
        if self._is_custom:
            self.type = "custom"
        holder = custom if isinstance(custom, Mapping) else function
        extra = _extra_of(piece)
        function_extra = _fields_beside(
            holder if isinstance(holder, Mapping) else {}, {"name", "arguments", "input"}
        )
        _merge(self.extra, extra)
        _merge(self.function_extra, function_extra)
        call_id = None if self.id else marks.id
        self.id = self.id or marks.id
        name = self._unsaid_name or ("" if marks.name == self.name else marks.name or "")
        self._unsaid_name = ""
        self.name += name
        arguments = self.take(marks.text) if marks.text else None
        return ToolCallPart(
            self.number, self.type, call_id, name or None, arguments or None, extra, function_extra
        )

    def take(self, text: str) -> str:
        """Add ``text`` to the arguments. Returns the part that certainly belongs to them; the rest is held back."""
        if self._is_custom:
            self._arguments.append(text)
            return text
        if self._scan.is_whole:
            return self._take_surplus(text)
        if not self._arguments:
            text = text.lstrip()
            if text.rstrip() == "null":
                text = "{}"  # no arguments: what LangChain reads leniently must be an object
            if not text:
                return ""
        end = self._scan.feed(text)
        whole, surplus = (text, "") if end is None else (text[:end], text[end:])
        if end is not None and not self._arguments and not whole.strip()[1:-1].strip():
            self._is_empty, self._held = True, whole
            return self._take_surplus(surplus)
        self._arguments.append(whole)
        return whole + (self._take_surplus(surplus) if surplus else "")

    def _take_surplus(self, text: str) -> str:
        """Take text after a complete object: the real arguments after {}, or the same arguments again."""
        if self._is_empty and text.strip():
            self._is_empty, self._held, self._scan = False, "", _ObjectScan()
            return self.take(text)
        if not self._is_empty:
            self._held += text
        return ""

    def finish(self, answer_id: str | None, place: int) -> ToolCallPart | None:
        rest = "" if self._repeats(self._held) else self._held
        self._held = ""
        if rest:
            self._arguments.append(rest)
        call_id = None
        if not self.id:
            call_id = self.id = make_call_id(answer_id, place, self.name, self.arguments)
        if not rest and call_id is None:
            return None
        return ToolCallPart(self.number, self.type, call_id, None, rest or None)

    def _repeats(self, surplus: str) -> bool:
        first = "".join(self._arguments).strip()
        again = surplus.strip()
        return bool(first) and (first.startswith(again) or _are_equal(first, again))

    @property
    def arguments(self) -> str:
        """The arguments so far, including what is held back."""
        text = "".join(self._arguments)
        return text if self._repeats(self._held) else text + self._held

    def value(self) -> dict[str, object]:
        marks: dict[str, object] = {"id": self.id, "type": self.type}
        holder, text = ("custom", "input") if self._is_custom else ("function", "arguments")
        inner = {"name": self.name, text: self.arguments, **self.function_extra}
        return {**marks, **self.extra, holder: inner}


class _ObjectScan:
    """Finds the end of a JSON object in text that comes in pieces. Looks at each character once."""

    def __init__(self) -> None:
        self.is_whole = False
        self._is_object: bool | None = None  # None: only whitespace has come
        self._depth = 0
        self._in_string = False
        self._backslash = ""  # one at the end of a piece escapes the next character

    def feed(self, text: str) -> int | None:
        """The position after the object's end, if ``text`` holds it. Text that is no object has no end: None."""
        if self._is_object is None and text.strip():
            self._is_object = text.lstrip().startswith("{")
        if not self._is_object:
            return None
        offset, text, self._backslash = len(self._backslash), self._backslash + text, ""
        for mark in _MARKS.finditer(text):
            sign = mark.group()
            if sign == "\\":
                self._backslash = sign
            elif sign == '"':
                self._in_string = not self._in_string
            elif not self._in_string and sign in "{[}]":
                self._depth += 1 if sign in "{[" else -1
                if self._depth == 0:
                    self.is_whole = True
                    return mark.end() - offset
        return None


def as_text(arguments: object) -> str:
    """Arguments as JSON text. Some upstreams send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else json.dumps(arguments, ensure_ascii=False)


def _extra_of(piece: Mapping[str, object]) -> dict[str, object]:
    return _fields_beside(piece, _FIELDS)


def _fields_beside(holder: Mapping[str, object], names: set[str]) -> dict[str, object]:
    return {key: value for key, value in holder.items() if key not in names and value is not None}


def _merge(fields: dict[str, object], more: Mapping[str, object]) -> None:
    for key, value in more.items():
        old = fields.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            fields[key] = {**old, **value}
        else:
            fields[key] = old or value


def _are_equal(first: str, again: str) -> bool:
    try:
        return bool(json.loads(first) == json.loads(again))
    except (ValueError, RecursionError):
        return False
