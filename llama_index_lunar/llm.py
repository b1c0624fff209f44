"""LunarLLM: LlamaIndex's eight endpoints, tools and routing on Lunar."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MessageRole,
)
from llama_index.core.bridge.pydantic import SecretStr
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import BaseOutputParser, PydanticProgramMode

from llama_index_lunar import tools as toolbox
from llama_index_lunar.calls import merged
from llama_index_lunar.endpoints import aclosing_method, chat_events, closing, completion_events
from llama_index_lunar.messages import to_wire
from llama_index_lunar.reporting import attributed
from llama_index_lunar.responses import as_chat, as_completion
from llama_index_lunar.structured import LunarStructured
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Observer
from lunar_core.routing import text_turns
from lunar_core.types.completions import RoutingDecision
from lunar_core.wire.api_requests import ROUTER

JSONObject = dict[str, Any]

# Arguments of OpenAI's, OpenRouter's and the vendor's classes that are about their own services.
_WITHOUT_MEANING = ("api_type", "order", "allow_fallbacks", "environment")


class LunarLLM(LunarStructured):
    """Any model of Lunar, or its router, wherever LlamaIndex takes an LLM.

    ``model``: a Lunar id (``gpt-4o-mini``), ``provider/model``, or ``router``: then the service chooses among
    ``models`` (at least 2; all when left out), the cheaper the higher ``cost_weight`` (from 0.0), and ``sticky`` says
    who stays with the model that answered before: ``"tools"`` (the results of tools, the default), ``"conversation"``
    or ``"off"``. ``fallbacks``: models to ask when the first fails.

    Each answer tells what it used and cost: flat in ``response.additional_kwargs`` (``total_cost_usd`` in USD,
    ``prompt_tokens``, ``latency_ms``, ``model``, ``routing``, …) and in ``response.raw["usage"]`` and ``["routing"]``;
    in a stream, on its last response. What the service did not say is absent. To add costs up: ``lunar_cost``.

    The arguments are those of ``OpenAILike``, in its order, so that a program changes its import and no more:

    ==================================  ===============================================================================
    ``api_key`` or ``jwt``              a string, or a function asked for each request; else LUNAR_API_KEY, LUNAR_JWT
    ``api_base``                        else LUNAR_BASE_URL, else the hosted service; ``base_url`` is the same
    ``temperature``, ``max_tokens``, …  sent only where given (OpenAILike sends a temperature of 0.1 unasked): also
                                        ``top_p``, ``stop``, ``n``, ``presence_penalty``, ``frequency_penalty``,
                                        ``provider``, ``logprobs``, ``top_logprobs``, ``reasoning_effort``,
                                        ``modalities``, ``audio_config``
    ``additional_kwargs``               any other field of the API, ``extra_body`` too; keywords of a call win over both
    ``context_window``                  tokens; else known for common models, 128,000 for others, and for the router the
                                        smallest of its candidates
    ``is_chat_model``                   False: text completions, by POST /v1/completions; a ``tokenizer`` that encodes
                                        tells how many tokens these may have
    ``is_function_calling_model``       False: objects and tools by LlamaIndex's prompts
    ``should_use_structured_outputs``   objects by ``response_format`` rather than by a tool; ``strict`` closes schemas
    ``timeout``, ``total_timeout``      seconds, also ``(connect, read)``; for a whole call with its retries and stream
    ``max_retries``                     of each model, 2 by default
    ``default_headers``                 kept out of all that is shown or stored, as the key is; not so a call's own
                                        ``extra_headers``, which LlamaIndex tells to handlers like any keyword
    ``http_client``, ``async_…``        httpx's or httpx2's clients of your own, left open
    ``observers``                       ``lunar_core.Observer``: budgets refuse here, before anything is sent
    ``reuse_client``, ``api_version``   taken, and of no effect: one LLM serves any number of threads, tasks and event
                                        loops anyway
    ==================================  ===============================================================================

    What has no meaning here (``openai_client``, OpenRouter's ``order``, …) is dropped with a warning.

    Copies, deep copies and pickles work at any time; copies tell the same observers and callbacks. The key travels in
    a pickle only where it was given, and in ``to_dict()`` never: ``from_dict(data, api_key=…)``, or the environment.
    Raises ConfigurationError for what cannot work; calls raise LunarError (docs: ``lunar_core.errors``).

    >>> llm = LunarLLM(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=0.3)
    >>> answer = llm.complete("Say hello")
    >>> answer.text, answer.additional_kwargs["total_cost_usd"], answer.raw["routing"]["selected_model"]
    ('hello', 0.0000045, 'gpt-4o-mini')
    """

    def __init__(
        self,
        model: str,
        temperature: float | None = None,
        max_tokens: int | None = None,
        additional_kwargs: dict[str, Any] | None = None,
        max_retries: int = 2,
        timeout: object = None,
        reuse_client: bool = True,
        api_key: str | SecretStr | Callable[[], str] | None = None,
        api_base: str | None = None,
        api_version: str | None = None,
        callback_manager: CallbackManager | None = None,
        default_headers: Mapping[str, str] | None = None,
        http_client: Any = None,
        async_http_client: Any = None,
        openai_client: object = None,
        async_openai_client: object = None,
        system_prompt: str | None = None,
        messages_to_prompt: Callable[[Sequence[ChatMessage]], str] | None = None,
        completion_to_prompt: Callable[[str], str] | None = None,
        pydantic_program_mode: PydanticProgramMode = PydanticProgramMode.DEFAULT,
        output_parser: BaseOutputParser | None = None,
        strict: bool = False,
        reasoning_effort: str | None = None,
        modalities: Sequence[str] | None = None,
        audio_config: Mapping[str, Any] | None = None,
        *,  # so far in OpenAILike's own order, which positional arguments of its users have
        jwt: str | SecretStr | Callable[[], str] | None = None,
        base_url: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        observers: Sequence[Observer] = (),
        stop: str | Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        fallbacks: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if "max_new_tokens" in kwargs:  # as OpenAILike takes it
            max_tokens = kwargs.pop("max_new_tokens")
        extra = merged(additional_kwargs or {}, {"extra_body": extra_body} if extra_body else {})
        # Headers may be secrets: they are kept where nothing shows them.
        headers = {**(default_headers or {}), **(extra.pop("extra_headers", None) or {})}
        _drop(
            {
                "openai_client": openai_client,
                "async_openai_client": async_openai_client,
                "additional_kwargs['extra_query']": extra.pop("extra_query", None),
                **{name: kwargs.pop(name, None) for name in _WITHOUT_MEANING},
            }
        )
        unknown = kwargs.keys() - type(self).model_fields.keys()
        if unknown:
            raise ConfigurationError(
                f"{type(self).__name__}: unknown argument {', '.join(sorted(unknown))}. "
                "Fields of the API that have no argument go into additional_kwargs={...}"
            )
        fields: JSONObject = {
            "model": model,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "additional_kwargs": extra,
            "max_retries": max_retries,
            "timeout": tuple(timeout) if isinstance(timeout, list) else timeout,
            "reuse_client": reuse_client,
            "api_key": api_key,
            "jwt": jwt,
            "api_base": base_url if api_base is None else api_base,
            "api_version": api_version,
            "callback_manager": callback_manager or CallbackManager([]),
            "default_headers": headers or None,
            "system_prompt": system_prompt,
            "messages_to_prompt": messages_to_prompt,
            "completion_to_prompt": completion_to_prompt,
            "pydantic_program_mode": pydantic_program_mode,
            "output_parser": output_parser,
            "strict": strict,
            "reasoning_effort": reasoning_effort,
            "modalities": modalities,
            "audio_config": audio_config,
            "stop": [stop] if isinstance(stop, str) else stop,
            "models": models,
            "fallbacks": fallbacks,
            **kwargs,
        }
        super().__init__(**fields)  # pydantic checks and converts them
        if self.model == ROUTER and not self.is_chat_model:
            raise ConfigurationError(
                "is_chat_model: the router takes chats only; name a model for text completions"
            )
        self._make_clients(observers, http_client, async_http_client)

    # The framework's endpoints: each is decorated once, and calls nothing that is decorated too, so that an
    # answer ends one event and one span.

    @chat_events
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        if self._chats(kwargs):
            return self._chat(messages, kwargs)
        return as_chat(self._text(self._prompt(messages), kwargs))

    @closing
    @chat_events
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and read the answer as it comes. The request is made at once, not at the first read."""
        if self._chats(kwargs):
            return self._stream_chat(messages, kwargs)
        return (as_chat(each) for each in self._stream_text(self._prompt(messages), kwargs))

    @completion_events
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a text: a chat's answer to it, or with ``is_chat_model=False`` its continuation."""
        prompt = self._formatted(prompt, formatted)
        if self._chats(kwargs):
            return as_completion(self._chat(_user(prompt), kwargs))
        return self._text(prompt, kwargs)

    @closing
    @completion_events
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Complete a text, and read the answer as it comes."""
        prompt = self._formatted(prompt, formatted)
        if self._chats(kwargs):
            return (as_completion(each) for each in self._stream_chat(_user(prompt), kwargs))
        return self._stream_text(prompt, kwargs)

    @chat_events
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        if self._chats(kwargs):
            return await self._achat(messages, kwargs)
        return as_chat(await self._atext(self._prompt(messages), kwargs))

    @aclosing_method
    @chat_events
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Ask, and read the answer as it comes."""
        if self._chats(kwargs):
            return await self._astream_chat(messages, kwargs)
        texts = await self._astream_text(self._prompt(messages), kwargs)
        return (as_chat(each) async for each in texts)

    @completion_events
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Complete a text."""
        prompt = self._formatted(prompt, formatted)
        if self._chats(kwargs):
            return as_completion(await self._achat(_user(prompt), kwargs))
        return await self._atext(prompt, kwargs)

    @aclosing_method
    @completion_events
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Complete a text, and read the answer as it comes."""
        prompt = self._formatted(prompt, formatted)
        if self._chats(kwargs):
            answers = await self._astream_chat(_user(prompt), kwargs)
            return (as_completion(each) async for each in answers)
        return await self._astream_text(prompt, kwargs)

    # Tools

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: object = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> JSONObject:
        arguments = toolbox.chat_arguments(
            tools,
            user_msg,
            chat_history,
            model=kwargs.get("model") or self.model,
            parallel=allow_parallel_tool_calls,
            required=tool_required,
            choice=tool_choice,
            strict=self.strict if strict is None else strict,
        )
        return {**arguments, **kwargs}

    def _validate_chat_with_tools_response(
        self,
        response: ChatResponse,
        tools: Sequence[BaseTool],
        allow_parallel_tool_calls: bool = False,
        **kwargs: Any,
    ) -> ChatResponse:
        if not allow_parallel_tool_calls:
            toolbox.keep_first(response)
        return response

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tools that the model wants called. Raises ValueError if there are none, unless told not to."""
        found = toolbox.selections(response)
        if not found and error_on_no_tool_call:
            raise ValueError("Expected at least one tool call, but got 0 tool calls.")
        return found

    # Routing

    def route(self, messages: str | Sequence[ChatMessage], **kwargs: Any) -> RoutingDecision:
        """Which model the router would choose for ``messages``, and why. Nothing is generated.

        >>> LunarLLM(model="router").route("Prove that 2 is even").selected_model
        'gpt-4o'
        """
        with attributed(self.callback_manager):
            return self._current_clients().sync.router.decide(
                **self._route_params(messages, kwargs)
            )

    async def aroute(self, messages: str | Sequence[ChatMessage], **kwargs: Any) -> RoutingDecision:
        """The same for asyncio."""
        with attributed(self.callback_manager):
            params = self._route_params(messages, kwargs)
            return await self._current_clients().asynchronous.router.decide(**params)

    def _route_params(self, messages: str | Sequence[ChatMessage], given: JSONObject) -> JSONObject:
        asked = _user(messages) if isinstance(messages, str) else messages
        own = {"models": self.models, "cost_weight": self.cost_weight}
        return {**own, **given, "messages": text_turns(to_wire(asked))}

    # Life

    def close(self) -> None:
        """Close the connections of the sync calls. Later ones are refused."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close all connections. Later calls are refused."""
        self._clients.close()
        await self._clients.aclose()


def _user(prompt: str) -> list[ChatMessage]:
    return [ChatMessage(prompt, role=MessageRole.USER)]


# LlamaIndex looks these signatures up with every call; kept, they cost it next to nothing.
for _name in ("chat", "stream_chat", "complete", "stream_complete"):
    for _method in (vars(LunarLLM)[_name].__wrapped__, vars(LunarLLM)[f"a{_name}"].__wrapped__):
        _method.__signature__ = inspect.signature(_method)


def _drop(given: Mapping[str, object]) -> None:
    """Warn of arguments that cannot be followed, where they were given."""
    for name, value in given.items():
        if value is not None:
            warnings.warn(f"{name} has no meaning for Lunar: dropped", stacklevel=3)
