"""Answers: completions, chunks of streams, routing decisions.

Only the fields that a caller cannot do without are required. Unknown fields are kept (``model_extra``),
and a field that the service leaves out is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from lunar_core.types.attempt import Attempt
from lunar_core.types.usage import Usage


@dataclass(frozen=True)
class CallInfo:
    """The client's own facts of a call, beside the service's answer.

    ``call_id``: unique, made by the client. ``attempts``: every request in order.
    ``request_id`` and ``headers``: those of the answer. ``latency_ms`` and ``ttft_ms`` (to the
    first content of a stream): milliseconds, measured by the client.

    >>> answer = Lunar().completions.create(model="gpt-4o", prompt="Count to 5")
    >>> answer.call.requested_model, len(answer.call.attempts), answer.call.latency_ms > 0
    ('gpt-4o', 1, True)
    """

    call_id: str = ""
    requested_model: str = ""
    attempts: tuple[Attempt, ...] = ()
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    latency_ms: float | None = None
    ttft_ms: float | None = None


class WireModel(BaseModel):
    """The base of all answers: immutable, and it keeps fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)


class Answer(WireModel):
    """What a call returns: the service's words, with ``call`` beside them (not in ``model_dump()``)."""

    _call: CallInfo = PrivateAttr(default_factory=CallInfo)

    @property
    def call(self) -> CallInfo:
        return self._call


class FunctionCall(WireModel):
    """The function of a tool call. ``arguments`` is JSON text, as the model wrote it."""

    name: str = ""
    arguments: str = ""


class CustomCall(WireModel):
    """The call of a tool that takes free text instead of arguments."""

    name: str = ""
    input: str = ""


class ToolCall(WireModel):
    """A tool call of the model. ``id`` is made up if the upstream gave none, because a result must name it.

    With ``type`` "custom" it has ``custom`` in place of ``function``.
    """

    id: str | None = None
    type: str = "function"
    function: FunctionCall = FunctionCall()
    custom: CustomCall | None = None

    @model_serializer(mode="wrap")
    def _without_empty_halves(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        # A call is sent back as it came: with either a function or a custom call.
        fields: dict[str, object] = handler(self)
        for half in ("function", "custom"):
            if half not in self.model_fields_set:
                fields.pop(half, None)
        return fields


class Message(WireModel):
    """The assistant's message. A Message may be sent back as it is, in the next ``messages``."""

    role: str = "assistant"
    content: str | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class Choice(WireModel):
    """One of the answers. If the provider blocked it, ``message`` is empty and ``finish_reason`` says so."""

    index: int = 0
    message: Message = Message()
    finish_reason: str | None = None
    logprobs: dict[str, object] | None = None


Score = Annotated[float, Field(allow_inf_nan=False)]


class RoutingDecision(Answer):
    """Which model the router chose for the prompt, and why.

    ``expected_error`` is the router's estimate for that model on prompts like this one (0 to 1);
    ``cost_adjusted_score`` is what it minimised. https://api.pureai-api.com, POST /v1/router.

    >>> route = Lunar().router.decide(messages=[{"role": "user", "content": "Count to 3"}])
    >>> route.selected_model, route.expected_error
    ('gpt-4o', 0.12)
    """

    selected_model: str
    selected_provider: str | None = None
    expected_error: Score | None = None
    cost_adjusted_score: Score | None = None
    cluster_id: int | None = None
    reasoning: str | None = None

    def __rich__(self) -> object:
        from lunar_core.types.decision_forms import to_rich

        return to_rich(vars(self))

    def _repr_html_(self) -> str:
        from lunar_core.types.decision_forms import to_html

        return to_html(vars(self))


class ChatCompletion(Answer):
    """POST /v1/chat/completions. ``routing`` is there when the router chose the model.

    >>> answer = Lunar().chat.completions.create(
    ...     model="gpt-4o-mini", messages=[{"role": "user", "content": "Count to 3"}]
    ... )
    >>> answer.choices[0].message.content, answer.cost
    ('1 2 3', Decimal('0.0000027'))
    """

    id: str | None = None
    object: str = "chat.completion"
    created: int | None = None
    model: str | None = None
    choices: list[Choice]
    usage: Usage | None = None
    routing: RoutingDecision | None = None

    @property
    def cost(self) -> Decimal | None:
        """What the service billed, in USD; None where it did not say, which is never the same as 0."""
        return None if self.usage is None else self.usage.cost


class RoutedCompletion(ChatCompletion):
    """POST /v1/router. With ``execute=False`` there is a decision but ``choices`` is empty.

    >>> answer = Lunar().router.create(messages=[{"role": "user", "content": "Count to 3"}])
    >>> answer.choices[0].message.content, answer.routing.selected_model
    ('1 2 3', 'gpt-4o')
    """

    choices: list[Choice] = []


class FunctionCallDelta(WireModel):
    name: str | None = None
    arguments: str | None = None


class CustomCallDelta(WireModel):
    name: str | None = None
    input: str | None = None


class ToolCallDelta(WireModel):
    """A piece of the tool call number ``index``; pieces of several calls may come interleaved."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCallDelta | None = None
    custom: CustomCallDelta | None = None


class Delta(WireModel):
    role: str | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class ChunkChoice(WireModel):
    index: int = 0
    delta: Delta = Delta()
    finish_reason: str | None = None
    logprobs: dict[str, object] | None = None


class ChatCompletionChunk(WireModel):
    """One event of a chat stream. ``choices`` has at least one entry in what a Stream yields.

    >>> stream = Lunar().chat.completions.create(
    ...     model="gpt-4o-mini", messages=[{"role": "user", "content": "Count to 3"}], stream=True
    ... )
    >>> "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    '1 2 3'
    """

    id: str | None = None
    object: str = "chat.completion.chunk"
    created: int | None = None
    model: str | None = None
    choices: list[ChunkChoice] = []
    usage: Usage | None = None
    routing: RoutingDecision | None = None


class TextChoice(WireModel):
    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    logprobs: dict[str, object] | None = None


class Completion(Answer):
    """POST /v1/completions.

    >>> Lunar().completions.create(model="gpt-4o", prompt="Count to 3").choices[0].text
    '1 2 3'
    """

    id: str | None = None
    object: str = "text_completion"
    created: int | None = None
    model: str | None = None
    choices: list[TextChoice]
    usage: Usage | None = None

    @property
    def cost(self) -> Decimal | None:
        """What the service billed, in USD; None where it did not say, which is never the same as 0."""
        return None if self.usage is None else self.usage.cost


class TextChunkChoice(WireModel):
    # The service ends text streams with a chat chunk: a ``delta`` and no ``text``.
    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    logprobs: dict[str, object] | None = None


class CompletionChunk(WireModel):
    """One event of a text stream. ``choices`` has at least one entry in what a Stream yields.

    >>> stream = Lunar().completions.create(model="gpt-4o", prompt="Count to 3", stream=True)
    >>> [chunk.choices[0].text for chunk in stream]
    ['1 ', '2 ', '3', '']
    """

    id: str | None = None
    object: str = "text_completion"
    created: int | None = None
    model: str | None = None
    choices: list[TextChunkChoice] = []
    usage: Usage | None = None
