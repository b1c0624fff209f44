"""Makes the keywords of the client's ``create()`` of a LunarLLM's fields and the keywords of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from llama_index.core.base.llms.generic_utils import messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.llm import CompletionToPromptType, MessagesToPromptType
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import PydanticProgramMode

from llama_index_lunar.client_call import ClientCall
from llama_index_lunar.messages import Conversation, ReplayReasoning, to_wire
from llama_index_lunar.responses import as_chat, as_completion
from llama_index_lunar.tools import chat_arguments, fit_tool_names
from lunar_core import bridge
from lunar_core.errors import ConfigurationError
from lunar_core.routing import ROUTER_FIELDS, text_turns
from lunar_core.wire.api_requests import ROUTER

JSONObject = dict[str, Any]
A = TypeVar("A", bound=ChatResponse | CompletionResponse)

# Fields of the LLM that are sent under their own name if they are set.
_SENT_FIELDS = (
    *bridge.SAMPLING_FIELDS,
    "provider",
    "logprobs",
    "reasoning_effort",
    "modalities",
)

_WITH_USAGE = {"include_usage": True}


class LLMFields(Protocol):
    """The fields of a LunarLLM that its requests and programs use, beside those of ``_SENT_FIELDS``."""

    model: str
    max_tokens: int | None
    logprobs: bool | None
    top_logprobs: int | None
    audio_config: dict[str, Any] | None
    additional_kwargs: dict[str, Any]
    models: list[str] | None
    cost_weight: bridge.CostWeight | None
    replay_reasoning: ReplayReasoning
    is_chat_model: bool
    is_function_calling_model: bool
    should_use_structured_outputs: bool
    strict: bool
    tokenizer: Any
    messages_to_prompt: MessagesToPromptType | None
    completion_to_prompt: CompletionToPromptType | None
    pydantic_program_mode: PydanticProgramMode

    @property
    def metadata(self) -> LLMMetadata: ...

    def find_route(self, messages: Sequence[Mapping[str, Any]]) -> JSONObject | None: ...


class Requests:
    """Makes the calls of an LLM, for each endpoint of LlamaIndex's. ``fields``: the LLM."""

    def __init__(self, fields: LLMFields) -> None:
        self.fields = fields

    def for_chat(
        self, messages: Sequence[ChatMessage], kwargs: JSONObject, *, stream: bool = False
    ) -> ClientCall[ChatResponse]:
        """The call for a conversation. Raises ConfigurationError for content that the API cannot carry."""
        if self._goes_to_chat(kwargs):
            return self._chat(messages, kwargs, as_chat, stream=stream)
        to_prompt = self.fields.messages_to_prompt or messages_to_prompt  # LlamaIndex's own
        prompt = to_prompt(messages)
        return self._text(prompt, kwargs, as_chat, stream=stream)

    def for_completion(
        self, prompt: str, kwargs: JSONObject, *, formatted: bool, stream: bool = False
    ) -> ClientCall[CompletionResponse]:
        """The call for a text. ``formatted``: the prompt already has the model's format."""
        if not formatted and self.fields.completion_to_prompt is not None:
            prompt = self.fields.completion_to_prompt(prompt)
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
        """The arguments of ``chat()`` for a chat with tools. ``chat_history`` is not changed.

        ``tool_choice``: in any form; None leaves it to ``tool_required``. Raises ConfigurationError for a choice that
        is none of the tools.
        """
        arguments = chat_arguments(
            tools,
            user_msg,
            chat_history,
            model=kwargs.get("model") or self.fields.model,
            parallel=allow_parallel_tool_calls,
            required=tool_required,
            choice=tool_choice,
            strict=self.fields.strict if strict is None else strict,
        )
        return {**arguments, **kwargs}

    def for_decision(self, messages: str | Sequence[ChatMessage], kwargs: JSONObject) -> JSONObject:
        """The keywords of ``router.decide()``."""
        turns = user_message(messages) if isinstance(messages, str) else messages
        return {**self._router_fields(), **kwargs, "messages": text_turns(to_wire(turns))}

    def _goes_to_chat(self, kwargs: JSONObject) -> bool:
        """Whether to call chat/completions.

        The keyword ``use_chat_completions`` overrides the field, and is not sent.
        """
        choice = kwargs.pop("use_chat_completions", None)
        return self.fields.is_chat_model if choice is None else bool(choice)

    def _chat(
        self,
        messages: Sequence[ChatMessage],
        kwargs: JSONObject,
        convert: Callable[[ChatResponse | CompletionResponse], A],
        *,
        stream: bool,
    ) -> ClientCall[A]:
        params, conversation = self._params(kwargs, stream=stream), Conversation(messages)
        replay_reasoning = params.pop("replay_reasoning", self.fields.replay_reasoning)
        route = None
        if params["model"] == ROUTER:
            route = self.fields.find_route(conversation.messages)
            if route is not None:
                params["model"] = route["selected_model"]
        params = bridge.without_lonely_tool_options(params)
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
        if params.get("max_tokens") is None and hasattr(self.fields.tokenizer, "encode"):
            params["max_tokens"] = self._room_after(prompt)
        if params.get("logprobs") is True:  # text completions have one field for both
            params["logprobs"] = params.pop("top_logprobs", None) or 0
        return ClientCall(params, is_chat=False, convert=convert)

    def _room_after(self, prompt: str) -> int:
        """The tokens that are left for the answer. By default, the service allows text completions few."""
        window, used = (
            self.fields.metadata.context_window,
            len(self.fields.tokenizer.encode(prompt)),
        )
        if used >= window:
            raise ConfigurationError(f"prompt: {used} tokens do not fit into the model's {window}")
        return window - used

    def _params(self, kwargs: Mapping[str, object], *, stream: bool) -> JSONObject:
        """The fields to send beside the messages. ``additional_kwargs`` override fields, keywords of the call both."""
        llm = self.fields
        bridge.check_keywords(kwargs)
        fields: JSONObject = {
            name: value for name in _SENT_FIELDS if (value := getattr(llm, name)) is not None
        }
        if llm.logprobs:
            fields["top_logprobs"] = llm.top_logprobs
        if llm.audio_config is not None:
            fields["audio"] = llm.audio_config
        params = {"model": llm.model, **fields, **merge_kwargs(llm.additional_kwargs, kwargs)}
        # The endpoint that is called decides whether to stream.
        params.pop("stream", None)
        if "stream" in (params.get("extra_body") or {}):
            params["extra_body"] = {k: v for k, v in params["extra_body"].items() if k != "stream"}
        if not stream:
            params = bridge.without_stream_options(params)
        elif params.get("stream_options") == _WITH_USAGE:
            del params["stream_options"]  # ``stream_usage`` below asks for the same
        if params["model"] == ROUTER:
            params = {**self._router_fields(), **params}
        if stream:
            params.setdefault("stream_usage", True)
        return params

    def _router_fields(self) -> JSONObject:
        return {name: getattr(self.fields, name) for name in ROUTER_FIELDS}


def user_message(prompt: str) -> list[ChatMessage]:
    """A conversation of one user message."""
    return [ChatMessage(prompt, role=MessageRole.USER)]


def merge_kwargs(first: Mapping[str, Any], second: Mapping[str, Any]) -> JSONObject:
    """Both; ``second`` overrides, in ``extra_body`` field by field."""
    merged = {**first, **second}
    one, other = first.get("extra_body"), second.get("extra_body")
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        merged["extra_body"] = {**one, **other}
    return merged
