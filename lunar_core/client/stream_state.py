"""The state of one stream: takes bytes, hands out the payloads of its events, and assembles the answer. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from lunar_core.client.body_buffer import BodyBuffer, Inflater
from lunar_core.client.call import Call
from lunar_core.errors import (
    AnswerFailedError,
    APIConnectionError,
    APIStreamError,
    APITimeoutError,
    LunarError,
    RateLimitError,
)
from lunar_core.observers import Status
from lunar_core.types.completions import (
    ChatCompletion,
    Completion,
    RoutedCompletion,
    RoutingDecision,
)
from lunar_core.types.usage import Usage
from lunar_core.wire import answers, error_responses, events, parsing
from lunar_core.wire.deltas import Assembly
from lunar_core.wire.headers import is_meant_whole
from lunar_core.wire.routes import read_route
from lunar_core.wire.sse import SSEDecoder
from lunar_core.wire.text import SurrogateJoiner

T = TypeVar("T")

_FAILURES = (AnswerFailedError, RateLimitError)  # failures that an event may state
_MARK_OR_SPACE = b"\xef\xbb\xbf \t\r\n"
_FIELDS = (b":", b"data", b"event", b"id", b"retry")
_HEAD_BYTES = 64 * 1024
_FOLD_AT_BYTES = 16 * 1024
"""After so many bytes the fragments so far are joined: joining all of a long stream at once would block an event loop.
"""

Final = ChatCompletion | Completion

_KINDS: dict[str, type[Final]] = {"completions": Completion, "router": RoutedCompletion}
_READERS: dict[type[Final], Callable[[bytes], Final]] = {
    ChatCompletion: answers.read_chat,
    Completion: answers.read_text,
    RoutedCompletion: answers.read_routed,
}


class StreamState:
    """The stream of one attempt. ``ready``: the payloads that have come and were not read yet.

    ``primed``: the first content has come (text, reasoning, a tool call, a ``finish_reason``). Before it, an error is
    raised as it arrives, so that the plan may retry. After it, everything is handed out in the order in which it came.
    ``ended``: no more payloads will follow.

    The first character of the body says whether it is a stream, not its content type. If the service ignored ``stream``
    and sent a whole answer, that was paid for: it is handed out as one chunk.
    """

    def __init__(self, call: Call, status: int, headers: Mapping[str, str]) -> None:
        self.primed = False
        self.ended = False
        self.ready: deque[bytes] = deque()
        self._call = call
        self._status = status
        self._headers = headers
        self._head: bytes | None = b""  # the bytes before the first event; None after it
        self._document: BodyBuffer | None = None  # the bytes so far of a body that is no stream
        self._fault: LunarError | None = None
        self._inflater = Inflater(headers.get("content-encoding"))
        self._joiner = SurrogateJoiner()
        self._decoder = SSEDecoder(call.limits.event)
        self._kind = _KINDS.get(call.endpoint or "", ChatCompletion)
        # Takes only what was handed out: what came after a failure is no part of the answer.
        self._assembly = Assembly(self._kind)
        self._unfolded = 0  # bytes since its fragments were joined
        self._beginning = Assembly(self._kind)  # takes what comes before the first content
        # To put on the first chunk, if the service states none in the stream.
        self._route: RoutingDecision | None = None

    # Bytes in

    def take(self, piece: bytes) -> None:
        """Take one piece of the body, as it was read."""
        try:
            for plain in self._inflater.feed(piece):
                if self._head is None or not self._is_document(self._head, plain):
                    self._take_payloads(self._decoder.feed(plain))
                    self._fold_at_times(len(plain))
        except ValueError as error:
            raise error_responses.make_answer_error(
                self._status, self._headers, b"", str(error)
            ) from None
        self.ended = self._decoder.done or self._decoder.error is not None

    def _is_document(self, head: bytes, plain: bytes) -> bool:
        """Whether the body is one document and no stream. If so, ``plain`` is kept as a part of it."""
        if self._document is None:
            if len(head) < _HEAD_BYTES:
                self._head = (head + plain)[:_HEAD_BYTES]
            if head.lstrip(_MARK_OR_SPACE):
                return False  # its first character was that of a stream
            plain = head + plain
            if not plain.lstrip(_MARK_OR_SPACE).startswith((b"{", b"[", b"<", b'"')):
                return False
            self._document = BodyBuffer(None, self._call.limits.body, cut=False)
        self._document.feed(plain)
        return True

    def end(self) -> None:
        """Take the end of the body. An incomplete event before it is dropped."""
        if self._document is not None:
            return self._end_document(self._document.value())
        last = self._decoder.flush()
        self._take_payloads(last[:-1])
        self._take_payloads([payload for payload in last[-1:] if _is_json(payload)])
        self.ended = True
        return None

    def _end_document(self, body: bytes) -> None:
        try:
            _READERS[self._kind](body)
            payload = events.as_chunk(body)
        except ValueError as error:
            raise error_responses.make_answer_error(
                self._status, self._headers, body, str(error)
            ) from None
        self._take_payloads([payload])
        self._decoder.done = self.ended = True

    def fail(self, error: LunarError) -> None:
        """End the stream with an error. What came before it is still handed out."""
        self._fault = error
        self.ended = True

    def _take_payloads(self, payloads: list[bytes]) -> None:
        if payloads:
            self._head = None
        early = 0
        for payload in payloads if not self.primed else ():
            early += 1
            if self._has_begun_with(self._mend(payload)):
                break
        late = payloads[early:]  # nearly all payloads of a stream
        self.ready.extend(map(self._mend, late) if self._may_mend(late) else late)

    def _has_begun_with(self, payload: bytes) -> bool:
        """Take an event before the first content. Returns whether it has content; raises a failure that it states."""
        self.ready.append(payload)
        self._beginning.feed(payload)
        self._refuse_failure(payload)
        if self._beginning.has_content:
            self._begin(is_routed=self._beginning.get("routing") is not None)
        return self.primed

    def _fold_at_times(self, size: int) -> None:
        self._unfolded += size
        if self._unfolded > _FOLD_AT_BYTES:
            self._unfolded = 0
            self._assembly.fold()

    def _may_mend(self, payloads: list[bytes]) -> bool:
        """Whether any payload may need mending. One test of all costs a fraction of a test of each."""
        together = b"\n".join(payloads)
        return self._joiner.is_concerned_by(together) or events.may_need_mending(together)

    def _mend(self, payload: bytes) -> bytes:
        """``payload`` with its surrogate pairs joined, and mended as ``events.mend`` says."""
        return events.mend(self._joiner.feed(payload))

    def _refuse_failure(self, payload: bytes) -> None:
        """Raise the failure that an event before any content states, with the usage that was stated for it."""
        try:
            events.plain_chunk(payload)
        except _FAILURES as error:
            for arrived in self.ready:
                self._assembly.feed(arrived)
            error.partial = self.completion()
            raise

    def _begin(self, *, is_routed: bool) -> None:
        """Mark that the first content has come. ``is_routed``: the service has stated the route in the stream."""
        self.primed = True
        del self._beginning  # frees memory: a first event may be very large
        self._call.first_content = self._call.runtime.clock()
        if not is_routed:
            self._route = self._call.decision or read_route(self._headers)
            if self._route is not None:
                self._assembly.add({"routing": self._route.model_dump()})

    # Chunks out

    def next(self, parse: Callable[[bytes], T | None]) -> T | None:
        """The next payload, parsed by ``parse``; None for one without meaning. Raises APIStreamError."""
        chunk = parse(self.ready[0])
        self._assembly.feed(self.ready.popleft())
        return chunk if chunk is None or self._route is None else self._add_route(chunk)

    def _add_route(self, chunk: T) -> T:
        route, self._route = self._route, None
        if isinstance(chunk, dict):
            chunk["routing"] = route.model_dump(exclude_none=True) if route is not None else None
            return chunk
        return (
            chunk.model_copy(update={"routing": route}) if isinstance(chunk, BaseModel) else chunk
        )

    @property
    def done(self) -> bool:
        """Whether ``[DONE]`` was seen: the stream is over, whatever the socket does."""
        return self._decoder.done

    def find_fault(self) -> LunarError | None:
        """The error of a stream that was read to its end, with the usage that was stated; None if it ended well."""
        error = self._find_fault()
        if error is not None and error.partial is None and self.usage is not None:
            error.partial = self.completion()
        return error

    def _find_fault(self) -> LunarError | None:
        if self._decoder.error is not None:
            return events.make_event_error(self._decoder.error)
        if self._fault is not None:
            return self._fault
        if (
            self._head is not None
            and not self._decoder.done
            and not self._may_be_events(self._head)
        ):
            why = "there is no event in it"
            return error_responses.make_answer_error(self._status, self._headers, self._head, why)
        if not self._decoder.done and not self._assembly.finished:
            return APIStreamError(
                "the stream ended before its answer did: no finish_reason and no [DONE]"
            )
        return None if self.primed else APIStreamError("the stream was empty")

    def _may_be_events(self, head: bytes) -> bool:
        text = head.lstrip(_MARK_OR_SPACE)
        if not text:
            return not is_meant_whole(self._status, self._headers)
        return text.startswith(_FIELDS) or any(field.startswith(text) for field in _FIELDS)

    def break_off(self, error: LunarError) -> LunarError:
        """Complete the error that broke the stream off: with the answer so far and the attempts."""
        if (
            self.primed
            and isinstance(error, APIConnectionError)
            and not isinstance(error, APITimeoutError)
        ):
            request_id = error.request_id
            error = APIStreamError(f"the stream was cut off: {error.message}")
            error.request_id = request_id
        self._call.policy.record_late_failure(error)
        if type(error) is LunarError:  # a bug of ours: the unread payloads are good
            for payload in self.ready:
                self._assembly.feed(payload)
        elif isinstance(error, _FAILURES) and self.ready:  # the event that stated the failure
            self._assembly.feed(self.ready.popleft())
        error.partial = self.completion()
        return self._call.identify(error)

    # The answer so far

    def completion(self) -> Final:
        """Everything so far, as the call would have returned it without ``stream=True``."""
        value, usage = self._assembly.value(), self._read_field("usage")
        if usage is not None:
            value["usage"] = usage
        try:
            answer = _as_completion(self._kind, value)
        except ValueError:  # chunks of an unknown form: keep at least the usage
            answer = _as_completion(self._kind, {"choices": [], "usage": value.get("usage")})
        answer._call = self._call.info(self._headers)
        if isinstance(answer, ChatCompletion) and answer.routing is not None:
            answer.routing._call = answer.call
        return answer

    def _read_field(self, field: str) -> object:
        """A field as the chunks state it so far, including chunks that nobody has read yet."""
        return self._assembly.get(field, self.ready)

    @property
    def usage(self) -> Usage | None:
        usage = self._read_field("usage")
        return parsing.validate_leniently(Usage, dict(usage)) if isinstance(usage, dict) else None

    @property
    def routing(self) -> RoutingDecision | None:
        routing = self._read_field("routing")
        try:
            return (
                parsing.validate_leniently(RoutingDecision, dict(routing))
                if isinstance(routing, dict)
                else None
            )
        except ValueError:
            return None

    def warn_of_unknown_cost(self) -> None:
        """Warn if the stream stated no cost.

        Called when the answer is whole and the connection is free, since a warning may be turned into an error.
        """
        if self._call.cost_notice.is_due:
            usage = self.usage
            if usage is None or usage.cost is None:
                self._call.cost_notice.give()

    def conclude(self, status: Status, error: LunarError | None = None) -> None:
        """Notify the observers how the stream ended, with the usage so far."""
        if self._call.is_watched:
            model, provider = self._read_field("model"), self._read_field("provider")
            self._call.report(
                status,
                self._call.info(self._headers),
                model if isinstance(model, str) else None,
                usage=self.usage,
                route=self.routing,
                extra={"provider": provider},
                error=error,
                read_answer=self.completion,
            )


def _as_completion(kind: type[ChatCompletion | Completion], value: dict[str, object]) -> Final:
    if kind is Completion:
        return parsing.validate_leniently(Completion, value)
    return parsing.validate_leniently(
        RoutedCompletion if kind is RoutedCompletion else ChatCompletion, value
    )


def _is_json(payload: bytes) -> bool:
    try:
        parsing.parse_json(payload)
    except ValueError:
        return False
    return True
