"""What a LunarLLM asks for: its fields and the keywords of a call → the keywords of the client's ``create()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
)
from llama_index.core.tools.types import BaseTool

from llama_index_lunar.messages import Conversation, to_wire
from llama_index_lunar.responses import as_chat, as_completion
from llama_index_lunar.tools import chat_arguments, fit_tool_names, tool_name
from lunar_core import bridge
from lunar_core.errors import ConfigurationError
from lunar_core.routing import text_turns
from lunar_core.wire.api_requests import ROUTER

if TYPE_CHECKING:
    from llama_index_lunar.llm import LunarLLM

JSONObject = dict[str, Any]
A = TypeVar("A", bound=ChatResponse | CompletionResponse)

# Fields of the LLM that are sent as they are, where they are set.
_SENT_FIELDS = (
    "temperature",
    "max_tokens",
    "top_p",
    "stop",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "provider",
    "logprobs",
    "reasoning_effort",
    "modalities",
)

_WITH_USAGE = {"include_usage": True}


@dataclass(frozen=True)
class ClientCall(Generic[A]):
    """One call of the client: ``params`` are the keywords of ``create()``.

    ``is_chat``: of chat/completions, not of completions. ``convert``: makes the response that LlamaIndex's endpoint
    returns of either's. ``route``: an earlier decision of the router that this call keeps to. ``own_names``: of the
    tools that are sent under another name, the one they have here.
    """

    params: JSONObject
    is_chat: bool
    convert: Callable[[ChatResponse | CompletionResponse], A]
    route: JSONObject | None = None
    own_names: Mapping[str, str] = field(default_factory=dict)

    def resource(self, client: Any) -> Any:  # a Lunar or an AsyncLunar: the same names in both
        """What of ``client`` has the ``create()`` to call."""
        return client.chat.completions if self.is_chat else client.completions

    @property
    def forced_tools(self) -> list[str]:
        """The tools of which one must be called; none where the model may choose to answer in words."""
        choice = self.params.get("tool_choice")
        if choice == "required":
            names = [tool_name(tool) for tool in self.params.get("tools") or ()]
        elif isinstance(choice, Mapping):
            names = [tool_name(choice)]
        else:
            names = []
        return [self.own_names.get(name, name) for name in names if name]


class Requests:
    """Makes the calls of an LLM, for each of LlamaIndex's endpoints."""

    def __init__(self, llm: LunarLLM) -> None:
        self._llm = llm

    def for_chat(
        self, messages: Sequence[ChatMessage], kwargs: JSONObject, *, stream: bool = False
    ) -> ClientCall[ChatResponse]:
        """The call for a conversation. Raises ConfigurationError for what the API has no place for."""
        if self._goes_to_chat(kwargs):
            return self._chat(messages, kwargs, as_chat, stream=stream)
        prompt = self._llm.messages_to_prompt(messages)  # type: ignore[misc]  # never None: validators set it
        return self._text(prompt, kwargs, as_chat, stream=stream)

    def for_completion(
        self, prompt: str, kwargs: JSONObject, *, formatted: bool, stream: bool = False
    ) -> ClientCall[CompletionResponse]:
        """The call for a text. ``formatted``: the prompt is as the model wants it already."""
        if not formatted:
            prompt = self._llm.completion_to_prompt(prompt)  # type: ignore[misc]  # as above
        if self._goes_to_chat(kwargs):
            return self._chat(user_message(prompt), kwargs, as_completion, stream=stream)
        return self._text(prompt, kwargs, as_completion, stream=stream)

    def with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: Sequence[ChatMessage] | None = None,
        *,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: object = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> JSONObject:
        """The arguments of ``chat()`` for a chat with tools. ``chat_history`` stays as it is.

        ``tool_choice``: in any form, or None to leave it to ``tool_required``. Raises ConfigurationError for a choice
        that names none of the tools.
        """
        arguments = chat_arguments(
            tools,
            user_msg,
            chat_history,
            model=kwargs.get("model") or self._llm.model,
            parallel=allow_parallel_tool_calls,
            required=tool_required,
            choice=tool_choice,
            strict=self._llm.strict if strict is None else strict,
        )
        return {**arguments, **kwargs}

    def for_decision(self, messages: str | Sequence[ChatMessage], kwargs: JSONObject) -> JSONObject:
        """The keywords of ``router.decide()``."""
        turns = user_message(messages) if isinstance(messages, str) else messages
        fields = {"models": self._llm.models, "cost_weight": self._llm.cost_weight}
        return {**fields, **kwargs, "messages": text_turns(to_wire(turns))}

    def _goes_to_chat(self, kwargs: JSONObject) -> bool:
        """Whether to ask chat/completions. ``use_chat_completions`` says so for one call, and is not sent."""
        choice = kwargs.pop("use_chat_completions", None)
        return self._llm.is_chat_model if choice is None else bool(choice)

    def _chat(
        self,
        messages: Sequence[ChatMessage],
        kwargs: JSONObject,
        convert: Callable[[ChatResponse | CompletionResponse], A],
        *,
        stream: bool,
    ) -> ClientCall[A]:
        params, conversation = self._params(kwargs, stream=stream), Conversation(messages)
        replay_reasoning = params.pop("replay_reasoning", self._llm.replay_reasoning)
        route = None
        if params["model"] == ROUTER:
            route = self._llm.find_route(conversation.messages)
            if route is not None:
                params["model"] = route["selected_model"]
        params["messages"] = conversation.for_model(params["model"], replay_reasoning)
        params, own_names = fit_tool_names(params)
        return ClientCall(params, is_chat=True, convert=convert, route=route, own_names=own_names)

    def _text(
        self,
        prompt: str,
        kwargs: JSONObject,
        convert: Callable[[ChatResponse | CompletionResponse], A],
        *,
        stream: bool,
    ) -> ClientCall[A]:
        params = {**self._params(kwargs, stream=stream), "prompt": prompt}
        if params.get("max_tokens") is None and hasattr(self._llm.tokenizer, "encode"):
            params["max_tokens"] = self._room_after(prompt)
        if params.get("logprobs") is True:  # text completions say how many, in one field
            params["logprobs"] = params.pop("top_logprobs", None) or 0
        return ClientCall(params, is_chat=False, convert=convert)

    def _room_after(self, prompt: str) -> int:
        """The tokens that are left for the answer: of text completions the service itself allows few."""
        window, used = self._llm.metadata.context_window, len(self._llm.tokenizer.encode(prompt))
        if used >= window:
            raise ConfigurationError(f"prompt: {used} tokens do not fit into the model's {window}")
        return window - used

    def _params(self, kwargs: Mapping[str, object], *, stream: bool) -> JSONObject:
        """What is sent beside the messages: fields, then ``additional_kwargs``, then the keywords of this call."""
        llm = self._llm
        bridge.check_keywords(kwargs)
        fields: JSONObject = {
            name: value for name in _SENT_FIELDS if (value := getattr(llm, name)) is not None
        }
        if llm.logprobs:
            fields["top_logprobs"] = llm.top_logprobs
        if llm.audio_config is not None:
            fields["audio"] = llm.audio_config
        params = {"model": llm.model, **fields, **merge_kwargs(llm.additional_kwargs, kwargs)}
        # Which endpoint is called says whether it streams.
        params.pop("stream", None)
        if "stream" in (params.get("extra_body") or {}):
            params["extra_body"] = {k: v for k, v in params["extra_body"].items() if k != "stream"}
        if not stream:
            params = bridge.without_stream_options(params)
        elif params.get("stream_options") == _WITH_USAGE:
            del params["stream_options"]  # streams ask for it anyway
        if params["model"] == ROUTER:
            params = {"models": llm.models, "cost_weight": llm.cost_weight, **params}
        if stream:
            params.setdefault("stream_usage", True)
        return params


def user_message(prompt: str) -> list[ChatMessage]:
    """A conversation that is one message of the user's."""
    return [ChatMessage(prompt, role=MessageRole.USER)]


def merge_kwargs(first: Mapping[str, Any], second: Mapping[str, Any]) -> JSONObject:
    """Both; ``second`` wins, field by field in ``extra_body`` too."""
    merged = {**first, **second}
    one, other = first.get("extra_body"), second.get("extra_body")
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        merged["extra_body"] = {**one, **other}
    return merged
