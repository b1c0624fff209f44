"""The parts that both frameworks' layers share, in plain JSON: metadata, tool_choice, arguments, output."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any

from pydantic import BaseModel, PlainSerializer
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import to_jsonable_python

from lunar_core.errors import ConfigurationError
from lunar_core.types.completions import CallInfo, RoutingDecision
from lunar_core.types.usage import Usage
from lunar_core.wire.content_parts import read_thinking
from lunar_core.wire.keywords import check_no_settings
from lunar_core.wire.output import parse_json_output, parse_tool_arguments
from lunar_core.wire.replay import REASONING_FIELDS, THINKING_FIELD
from lunar_core.wire.routes import find_provider
from lunar_core.wire.text import join_all_surrogates

COST_FIELDS = (
    "total_cost_usd",
    "input_cost_usd",
    "output_cost_usd",
    "cache_input_cost_usd",
    "latency_ms",
    "ttft_ms",
)
"""The fields of ``usage`` that are money or time: floats, as the service wrote them."""

ToolChoice = str | dict[str, object]

CostWeight = Annotated[
    float | SkipJsonSchema[Callable[[], float]],
    PlainSerializer(lambda weight: None if callable(weight) else weight),
]
"""The type of a model's ``cost_weight``: a number, or a function that is called for each request and never dumped."""

SAMPLING_FIELDS = (
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
)
"""The fields that every model of both frameworks has, and sends under the same names unless they are None."""

_OF_CALLS = frozenset({"execute", "messages", "prompt"})


def check_keywords(keywords: Mapping[str, Any], place: str = "") -> None:
    """Refuse keywords that the layer sets itself (``messages``), and settings of the client, such as a key.

    ``keywords``: those of a call, or those that a model sends with each call; ``place`` then names the model's field
    (``model_kwargs``). Also checks ``extra_body``. Raises ConfigurationError that names the first wrong one.
    """
    check_no_settings(keywords, place)
    where = f"{place}: " if place else ""
    for name in _OF_CALLS & keywords.keys():
        raise ConfigurationError(f"{where}{name}: is what each call itself says, and no keyword")
    extra_body = keywords.get("extra_body")
    if isinstance(extra_body, Mapping):
        check_keywords(extra_body, f"{where}extra_body")


def without_stream_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` for a call without a stream: providers refuse ``stream_options`` there."""
    plain = {name: value for name, value in params.items() if name != "stream_options"}
    extra_body = plain.get("extra_body")
    if isinstance(extra_body, Mapping) and "stream_options" in extra_body:
        plain["extra_body"] = {k: v for k, v in extra_body.items() if k != "stream_options"}
    return plain


def without_lonely_tool_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """``params`` without an empty list of tools, and without what providers refuse where there are no tools."""
    extra_body = params.get("extra_body")
    if params.get("tools") or (isinstance(extra_body, Mapping) and extra_body.get("tools")):
        return dict(params)
    lonely = {"tools", "tool_choice", "parallel_tool_calls"}
    return {name: value for name, value in params.items() if name not in lonely}


def without_functions(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``settings`` for a cache or a dump: without a ``cost_weight`` that is a function.

    Its result may differ each time, and its repr holds an address.
    """
    weight = settings.get("cost_weight")
    return {
        key: value
        for key, value in settings.items()
        if key != "cost_weight" or not callable(weight)
    }


def metadata(
    *,
    call: CallInfo,
    model: str | None,
    answer_id: str | None,
    finish_reason: str | None,
    usage: Usage | None,
    routing: RoutingDecision | None,
    extra: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """All facts of an answer except its tokens and its text, as flat plain JSON. Unknown facts are left out.

    ``model_name``: the model that answered. ``requested_model``: the one that the call named. Costs are in USD and
    latencies in ms, under the names of the API. ``attempts`` is there if there was more than one.
    """
    metadata: dict[str, object] = {
        name: getattr(usage, name) for name in COST_FIELDS if usage is not None
    }
    if metadata.get("latency_ms") is None:
        metadata["latency_ms"] = call.latency_ms
    if metadata.get("ttft_ms") is None:
        metadata["ttft_ms"] = call.ttft_ms
    metadata |= {
        "model_name": model or call.requested_model or None,
        "requested_model": call.requested_model or None,
        "model_provider": "lunar",
        "provider": find_provider(model, routing, extra or {}),
        "finish_reason": finish_reason,
        "id": answer_id,
        "call_id": call.call_id or None,
        "routing": routing_dict(routing),
    }
    if len(call.attempts) > 1:
        metadata["attempts"] = [vars(attempt) for attempt in call.attempts]
    return {name: value for name, value in metadata.items() if value is not None}


class PlainTexts:
    """Finds the chunks of a stream that hold a piece of text and nothing else new: nearly all of them.

    A layer then need not search such a chunk for other fields, which takes most of its time. Make one for each stream.
    """

    def __init__(self) -> None:
        self._usual: AbstractSet[str] = frozenset()
        self._last: dict[str, Any] | None = None

    def text(self, chunk: dict[str, Any]) -> str | None:
        """The text of such a chunk (of ``Stream.plain_chunks``); None if the chunk must be read in full."""
        choice = chunk["choices"][0]
        delta = choice.get("delta")
        if (
            type(delta) is not dict
            or len(delta) != 1
            or chunk.keys() != self._usual
            or choice.get("finish_reason") is not None
            or choice.get("logprobs") is not None
            or choice.get("index")
            or chunk.get("usage") is not None
            or chunk.get("routing") is not None
        ):
            return None
        text = delta.get("content")
        if type(text) is not str or not text:
            return None
        self._last = chunk
        return text

    def unread(self, chunk: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The chunks to read in full now: the last one that ``text`` read, and ``chunk`` (None at the end).

        All chunks that ``text`` read state the same facts of the call, so the last one is enough.
        """
        passed, self._last = self._last, None
        if chunk is not None:
            self._usual = chunk.keys()
        return [one for one in (passed, chunk) if one is not None]


def find_reasoning(message: Mapping[str, object]) -> str:
    """The reasoning in a message or a delta, in any field that an upstream uses for it; "" without."""
    name = find_reasoning_field(message)
    reasoning = None if name is None else message.get(name)
    if isinstance(reasoning, str):
        return reasoning
    return "" if name is None else read_thinking(message.get("content"))


def find_reasoning_field(message: Mapping[str, object]) -> str | None:
    """The field with the reasoning of a message or a delta; None without. "thinking": it is among the content parts."""
    for name in (*REASONING_FIELDS, THINKING_FIELD):
        reasoning = message.get(name)
        if isinstance(reasoning, str) and reasoning:
            return name
    content = message.get("content")
    return THINKING_FIELD if not isinstance(content, str) and read_thinking(content) else None


def find_shown_choice(choices: object) -> dict[str, Any]:
    """The choice with index 0, which is shown, because a message has one text. {} if ``choices`` do not have it."""
    listed = choices if isinstance(choices, list) else []
    firsts = [choice for choice in listed if isinstance(choice, dict)]
    return next((choice for choice in firsts if choice.get("index") in (None, 0, "0")), {})


def routing_dict(routing: RoutingDecision | None) -> dict[str, object] | None:
    """A decision as plain JSON, without the fields that the service did not state."""
    return None if routing is None else routing.model_dump(mode="json", exclude_none=True)


_CHOICES = ("auto", "none", "required")


def tool_choice(choice: object, names: Sequence[str]) -> ToolChoice | None:
    """Convert any form of ``tool_choice`` that users of the frameworks write to the form of the API.

    ``"auto"``, ``"none"`` and ``"required"`` stay. ``"any"`` and ``True`` become "required", ``False`` becomes None. A
    tool's name, or a dict that names one, forces that tool. A dict of another type is returned unchanged. Raises
    ConfigurationError for a tool that is not among ``names``.
    """
    if choice is None or choice is False:
        return None
    if choice is True or choice == "any":
        return "required"
    if isinstance(choice, str):
        return choice if choice in _CHOICES else _choose_function(choice, names)
    if isinstance(choice, Mapping):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, Mapping) else choice.get("name")
        if isinstance(name, str):
            return _choose_function(name, names)
        kind = choice.get("type")
        if kind in _CHOICES or kind == "any":
            return tool_choice(kind, names)
        if isinstance(kind, str) and kind not in ("function", "tool"):
            return dict(choice)  # a provider's own: allowed_tools, web_search, …
    raise ConfigurationError(
        "tool_choice: expected auto, none, required, any, True, or the name of a tool"
    )


def _choose_function(name: str, names: Sequence[str]) -> dict[str, object]:
    if name not in names:
        raise ConfigurationError(
            f"tool_choice: no tool is called {name!r}; there are {list(names)}"
        )
    return {"type": "function", "function": {"name": name}}


def parse_arguments(
    text: str | None, *, finish_reason: str | None = None
) -> dict[str, object] | None:
    """The arguments of a finished tool call; None if they are no complete JSON object, so that no tool runs on them.

    {} if there are none at all, unless the ``finish_reason`` says that the token limit cut the answer off.
    """
    return parse_tool_arguments(text, finish_reason=finish_reason)


def write_arguments(arguments: object, place: str) -> str:
    """The arguments of a tool call as JSON text, with dates, sets, bytes and objects as pydantic writes them.

    NaN and infinities become null. ``place``: where they are in the conversation, for the error. Raises
    ConfigurationError for a value that JSON cannot hold.

    >>> write_arguments({"days": {1}}, "messages[2]")
    '{"days": [1]}'
    """
    try:
        plain = to_jsonable_python(arguments, inf_nan_mode="null")
        return json.dumps(join_all_surrogates(plain), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place}: arguments that JSON cannot carry: {error}") from None


def parse_output(
    text: str | None, *, finish_reason: str | None = None, token_limit: int | None = None
) -> object:
    """Parse a finished answer as JSON, strictly: nothing is mended.

    ``token_limit``: the ``max_tokens`` that was sent, for the error's text. Raises OutputTruncatedError for incomplete
    JSON, and ValueError for text that is no JSON.
    """
    return parse_json_output(text, finish_reason=finish_reason, token_limit=token_limit)


def describe_fields(cls: type[BaseModel], descriptions: Mapping[str, str]) -> None:
    """Add descriptions to fields that ``cls`` inherits from its framework without one."""
    for name, description in descriptions.items():
        field = cls.model_fields.get(name)
        if field is not None and field.description is None:
            field.description = description
