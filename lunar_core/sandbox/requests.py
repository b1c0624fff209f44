"""The request bodies, checked as the reference's tables state them.

Checks fail with FastAPI's 422 list (pydantic's own errors, ``loc`` below ``body``), which is
what the service answers with. Types are strict: ``"max_tokens": "5"`` is refused.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, model_validator

from lunar_core.sandbox.errors import ServiceError

Temperature = Annotated[float, Field(ge=0, le=2)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Positive = Annotated[int, Field(ge=1)]
_TEXT, _ITEMS = 100_000, 200
"""How long a text and a list a schema may demand at least."""


class _Body(BaseModel):
    """Fields the reference doesn't name pass through, for OpenAI's sake."""

    model_config = ConfigDict(extra="allow", strict=True)


class ClosedBody(BaseModel):
    """No field but those that are named."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Body):
    type: Literal["text"]
    text: str


class _Url(_Body):
    url: Annotated[str, Field(min_length=1)]


class ImagePart(_Body):
    type: Literal["image_url"]
    image_url: _Url


class _Audio(_Body):
    data: str
    format: str


class AudioPart(_Body):
    type: Literal["input_audio"]
    input_audio: _Audio


class _File(_Body):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _has_something(self) -> _File:
        if not (self.file_data or self.file_id):
            raise ValueError("a file needs file_data or file_id")
        return self


class FilePart(_Body):
    type: Literal["file"]
    file: _File


class RefusalPart(_Body):
    type: Literal["refusal"]
    refusal: str


Part = Annotated[
    TextPart | ImagePart | AudioPart | FilePart | RefusalPart, Field(discriminator="type")
]


class _CalledFunction(_Body):
    name: str
    arguments: str


class ToolCall(_Body):
    id: Annotated[str, Field(min_length=1)]
    type: Literal["function"]
    function: _CalledFunction


class Message(_Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[Part], Field(min_length=1)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Message:
        if self.content is None and self.role != "assistant":
            raise ValueError(f"a {self.role} message needs content")
        if self.content is None and not self.tool_calls:
            raise ValueError("an assistant message needs content or tool_calls")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant message has tool_calls")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("a tool message, and no other, has a tool_call_id")
        return self


class TextMessage(ClosedBody):
    """A message of the reference's own kind: a role and a text."""

    role: Literal["system", "user", "assistant"]
    content: str
    name: str | None = None


class Schema(_Body):
    """A JSON schema: the keywords that mean something here, each in its form or not at all."""

    type: str | list[str] = "object"
    enum: Annotated[list[Any], Field(min_length=1)] = [None]
    properties: dict[str, Schema | bool] = {}
    required: list[str] = []
    items: Schema | bool | list[Any] = True
    prefix_items: Annotated[list[Schema | bool], Field(alias="prefixItems")] = []
    any_of: Annotated[list[Schema | bool], Field(alias="anyOf")] = []
    one_of: Annotated[list[Schema | bool], Field(alias="oneOf")] = []
    all_of: Annotated[list[Schema | bool], Field(alias="allOf")] = []
    defs: Annotated[dict[str, Schema | bool], Field(alias="$defs")] = {}
    pattern: str = ""
    format: str = ""
    minimum: float = 0
    maximum: float = 0
    exclusive_minimum: Annotated[float, Field(alias="exclusiveMinimum")] = 0
    exclusive_maximum: Annotated[float, Field(alias="exclusiveMaximum")] = 0
    multiple_of: Annotated[float, Field(alias="multipleOf", gt=0)] = 1
    min_length: Annotated[int, Field(alias="minLength", ge=0, le=_TEXT)] = 0
    max_length: Annotated[int, Field(alias="maxLength", ge=0)] = 0
    min_items: Annotated[int, Field(alias="minItems", ge=0, le=_ITEMS)] = 0
    max_items: Annotated[int, Field(alias="maxItems", ge=0)] = 0


class Function(_Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: Schema | None = None


class Tool(_Body):
    type: Literal["function"]
    function: Function


class _Named(_Body):
    name: str


class NamedChoice(_Body):
    type: Literal["function"]
    function: _Named


class JsonSchema(_Body):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: Annotated[Schema | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(_Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> ResponseFormat:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema needs a json_schema")
        return self


class StreamOptions(_Body):
    include_usage: bool | None = None


class _Sampling(_Body):
    stream: bool | None = None
    max_tokens: Positive | None = None
    temperature: Temperature | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    stop: Annotated[list[str], Field(max_length=16)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    provider: str | None = None
    # From here on OpenAI's, passed through.
    stream_options: StreamOptions | None = None
    seed: int | None = None
    user: str | None = None


class ChatRequest(_Sampling):
    """``POST /v1/chat/completions``."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Positive | None = None
    tools: Annotated[list[Tool], Field(min_length=1)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: str | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


class TextRequest(_Sampling):
    """``POST /v1/completions``."""

    model: Annotated[str, Field(min_length=1)]
    prompt: str


class RouterRequest(ClosedBody):
    """``POST /v1/router``: exactly the reference's table."""

    messages: Annotated[list[TextMessage], Field(min_length=1)]
    execute: bool = True
    models: Annotated[list[str], Field(min_length=2)] | None = None
    cost_weight: Annotated[float, Field(ge=0)] = 0.0
    stream: bool = False
    max_tokens: Positive | None = None
    temperature: Temperature | None = None


class _ObservedMessage(_Body):
    role: str
    content: str


class ObservedChatRequest(_Body):
    """What the backend was seen to check. The rest is accepted, whatever it is, and ignored."""

    model: str
    messages: list[_ObservedMessage]
    stream: StrictBool | None = None


class ObservedTextRequest(_Body):
    """The backend checks the limits of a text, and ignores them."""

    model: str
    prompt: str
    stream: StrictBool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    stop: list[str] | None = None


class ObservedRouterRequest(_Body):
    """The backend checks the limits of a routed answer, and ignores them."""

    messages: Annotated[list[_ObservedMessage], Field(min_length=1)]
    execute: bool = True
    models: Annotated[list[str], Field(min_length=2)] | None = None
    cost_weight: Annotated[float, Field(ge=0)] = 0.0
    stream: bool = False
    max_tokens: Positive | None = None
    temperature: Temperature | None = None


def check(kind: type[BaseModel], raw: bytes) -> dict[str, Any]:
    """Check a body, and return it as it came: with the fields that the reference doesn't name.

    Raises ServiceError: 422 with FastAPI's list.
    """
    try:
        payload = json.loads(raw)
        # What can't be said again is refused here: NaN, infinity, half a surrogate pair, no end.
        json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        position = getattr(error, "pos", 0)
        raise ServiceError(
            422,
            [
                {
                    "type": "json_invalid",
                    "loc": ["body", position],
                    "msg": "JSON decode error",
                    "input": {},
                    "ctx": {"error": str(error)},
                }
            ],
        ) from None
    try:
        kind.model_validate(payload)
    except ValidationError as error:
        problems = json.loads(error.json(include_url=False))
        for problem in problems:
            problem["loc"] = ["body", *problem["loc"]]
        raise ServiceError(422, problems) from None
    return dict(payload)
