"""Makes a request of a ChatLunar's fields and a call's keywords, and LangChain's result of the answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult

from langchain_lunar.answers import from_wire, to_result
from langchain_lunar.chunks import ChunkConverter
from langchain_lunar.messages import ReplayReasoning, to_wire
from langchain_lunar.metadata import read_decision
from langchain_lunar.migration import as_parameter
from langchain_lunar.parsers import check_forced_call, parse_into
from langchain_lunar.router.route import DECISION
from langchain_lunar.router.sticky import find_sticky_model
from langchain_lunar.tools import (
    HAS_PARSER,
    PARSED_AS,
    SCHEMA_PROMPT,
    SHOWN_FORMAT,
    Schema,
    is_schema_class,
    response_format,
)
from lunar_core import bridge
from lunar_core.routing import Sticky
from lunar_core.types.completions import ChatCompletion, RoutingDecision
from lunar_core.wire.api_requests import ROUTER
from lunar_core.wire.tool_names import fit_names

SENT_FIELDS = (
    *bridge.SAMPLING_FIELDS,
    "seed",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "reasoning_effort",
    "user",
    "provider",
    "models",
    "cost_weight",
    "extra_body",
)
"""Fields that are sent under their own name if they are set."""

_LOCAL = frozenset(
    {
        DECISION,
        HAS_PARSER,
        PARSED_AS,
        SCHEMA_PROMPT,
        SHOWN_FORMAT,
        "replay_reasoning",
        "sticky",
        "stream",
        "stream_usage",
        "structured_output_format",
    }
)
"""Keywords of a call that are for LangChain or ChatLunar, and are not sent."""


class ChatFields(Protocol):
    """The fields of a ChatLunar that its requests use, beside those of ``SENT_FIELDS``."""

    model: str
    model_kwargs: dict[str, Any]
    extra_body: dict[str, Any] | None
    sticky: Sticky
    replay_reasoning: ReplayReasoning
    stream_usage: bool
    langsmith_cost: bool
    output_version: str | None


@dataclass(frozen=True)
class ChatRequest:
    """One call: the keywords of the core's ``create``, and how its answer is converted."""

    params: dict[str, Any]
    own_names: Mapping[str, str] = field(default_factory=dict)
    """The original name of each tool that is sent under another name, by that name."""
    decision: RoutingDecision | None = None
    """The routing decision, if an earlier request made it."""
    schema: Schema | None = None
    """The class for ``additional_kwargs["parsed"]``, if the answer is to be parsed."""
    has_parser: bool = False
    """Whether a parser follows, which checks the answer itself."""
    langsmith_cost: bool = False
    output_version: str | None = None

    def to_result(self, answer: ChatCompletion) -> ChatResult:
        """LangChain's result.

        Raises OutputTruncatedError or ToolChoiceIgnoredError for an answer that fails ``check``.
        """
        result = to_result(
            answer,
            decision=self.decision,
            own_names=self.own_names,
            langsmith_cost=self.langsmith_cost,
        )
        first = result.generations[0].message
        if isinstance(first, AIMessage):
            first.additional_kwargs |= self.check(first, answer)
        return result

    @property
    def is_checked(self) -> bool:
        """Whether ``check`` has anything to check."""
        forces_call = "tool_choice" in self.params
        return not self.has_parser and (forces_call or self.schema is not None)

    def check_stream(self, answer: ChatCompletion | None) -> dict[str, Any]:
        """``check`` for the answer of a stream. None: there is nothing to check."""
        if answer is None:
            return {}
        choice = min(answer.choices, key=lambda choice: choice.index)
        message = from_wire(choice.message, choice.finish_reason, self.own_names)
        return self.check(message, answer)

    def converter(self, call_id: str) -> ChunkConverter:
        """The converter for the stream of this call."""
        return ChunkConverter(call_id, self.output_version, self.decision, own_names=self.own_names)

    def check(self, message: AIMessage, answer: ChatCompletion) -> dict[str, Any]:
        """Check a finished message. Returns fields for its ``additional_kwargs``: ``parsed``, if a class was given."""
        if not self.is_checked:
            return {}
        check_forced_call(message, self.params.get("tool_choice"), answer)
        if self.schema is None or message.tool_calls or message.invalid_tool_calls:
            return {}
        parsed = parse_into(self.schema, message, answer, self.params.get("max_tokens"))
        return {} if parsed is None else {"parsed": parsed}


def make_request(
    model: ChatFields,
    messages: Sequence[BaseMessage],
    stop: list[str] | None,
    keywords: Mapping[str, Any],
    *,
    stream: bool,
) -> ChatRequest:
    """Make the request of one call. Keywords override the model's fields.

    Raises ConfigurationError naming the wrong one.
    """
    bridge.check_keywords(keywords)
    params = _params(model, stop, keywords)
    if params["model"] == ROUTER:
        sticky_model = find_sticky_model(messages, keywords.get("sticky", model.sticky))
        params["model"] = sticky_model or ROUTER
    params["messages"] = to_wire(
        messages,
        model=params["model"],
        replay_reasoning=keywords.get("replay_reasoning", model.replay_reasoning),
    )
    if SCHEMA_PROMPT in keywords:
        params["messages"] = _with_instructions(params["messages"], keywords[SCHEMA_PROMPT])
    if stream:
        params["stream"] = True
        params["stream_usage"] = keywords.get("stream_usage", model.stream_usage)
    else:
        params = bridge.without_stream_options(params)
    return ChatRequest(
        params,
        own_names=_fit_tool_names(params),
        decision=read_decision(keywords.get(DECISION)),
        schema=_take_schema(params, keywords),
        has_parser=HAS_PARSER in keywords,
        langsmith_cost=model.langsmith_cost,
        output_version=model.output_version,
    )


def _params(
    model: ChatFields, stop: list[str] | None, keywords: Mapping[str, Any]
) -> dict[str, Any]:
    fields = {name: getattr(model, name) for name in SENT_FIELDS}
    params = {"model": model.model, **{k: v for k, v in fields.items() if v is not None}}
    params.update(model.model_kwargs)
    for name, value in keywords.items():
        if name == "extra_body" and value:
            params[name] = {**(model.extra_body or {}), **value}
        elif name not in _LOCAL:
            params[as_parameter(name)] = value
    if stop is not None:
        params["stop"] = stop
    if not params.get("stop", True):
        del params["stop"]  # services refuse an empty list
    return bridge.without_lonely_tool_options(params)


def _with_instructions(turns: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """``turns`` with ``text`` in the system message: one message, since not every provider takes two."""
    first = turns[0] if turns else {}
    if first.get("role") == "system" and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{text}"}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]


def _take_schema(params: dict[str, Any], keywords: Mapping[str, Any]) -> Schema | None:
    """The class given as ``response_format``, whose JSON schema is sent."""
    schema = params.get("response_format")
    if not is_schema_class(schema):
        parsed_as: Schema | None = keywords.get(PARSED_AS)
        return parsed_as
    params["response_format"] = response_format(schema, strict=None)
    return schema


# Names of tools ----------------------------------------------------------------------------------


def _fit_tool_names(params: dict[str, Any]) -> dict[str, str]:
    """Change names of tools in ``params`` that the API refuses. Returns the original name of each changed one."""
    holders = [*_functions(params.get("tools")), *_functions([params.get("tool_choice")])]
    holders += [
        function for turn in params["messages"] for function in _functions(turn.get("tool_calls"))
    ]
    named_turns = [turn for turn in params["messages"] if turn["role"] == "function"]
    names = [holder["name"] for holder in (*holders, *named_turns) if holder.get("name")]
    sent = {name: fit for name, fit in fit_names(names).items() if name != fit}
    if sent:
        for name in ("tools", "tool_choice"):
            if name in params:
                params[name] = _rename(params[name], sent)
        params["messages"] = [_renamed_turn(turn, sent) for turn in params["messages"]]
    return {fit: name for name, fit in sent.items()}


def _functions(values: Any) -> list[Mapping[str, Any]]:
    listed = values if isinstance(values, (list, tuple)) else []
    entries = [value for value in listed if isinstance(value, Mapping)]
    inner = [entry.get(kind) for entry in entries for kind in ("function", "custom")]
    return [function for function in inner if isinstance(function, Mapping)]


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    """A copy of tools, calls or a choice with new names of functions."""
    if isinstance(value, (list, tuple)):
        return [_rename(item, names) for item in value]
    if not isinstance(value, Mapping):
        return value
    changed = dict(value)
    for kind in ("function", "custom"):
        function = value.get(kind)
        if isinstance(function, Mapping) and function.get("name") in names:
            changed[kind] = {**function, "name": names[function["name"]]}
    return changed


def _renamed_turn(turn: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    changed = dict(turn)
    if "tool_calls" in turn:
        changed["tool_calls"] = _rename(turn["tool_calls"], names)
    if turn["role"] == "function" and turn.get("name") in names:
        changed["name"] = names[turn["name"]]
    return changed
