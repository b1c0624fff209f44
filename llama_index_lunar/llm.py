"""LunarLLM: any model of Lunar, or its router, wherever LlamaIndex takes an LLM."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, TypeVar

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
)
from llama_index.core.bridge.pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    field_serializer,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import BaseOutputParser, PydanticProgramMode
from typing_extensions import Self

from llama_index_lunar import tools as toolbox
from llama_index_lunar.arguments import (
    check_names,
    drop_meaningless,
    refused_field,
    split_additional,
)
from llama_index_lunar.attribution import attributed
from llama_index_lunar.client_call import ClientCall
from llama_index_lunar.compat import FIELD_DESCRIPTIONS
from llama_index_lunar.endpoints import (
    aclosing_stream,
    chat_events,
    close_at_end,
    closing_stream,
    completion_events,
)
from llama_index_lunar.errors import explain_missing_call
from llama_index_lunar.messages import ReplayReasoning, to_message
from llama_index_lunar.reporter import Reporter
from llama_index_lunar.requests import Requests, merge_kwargs
from llama_index_lunar.responses import Responses
from llama_index_lunar.routes import Routes
from llama_index_lunar.structured import LunarStructuredLLM, StructuredOutput
from lunar_core import bridge
from lunar_core.bridge import CostWeight, without_functions
from lunar_core.client.pair import ClientPair
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Observer, checked_observers
from lunar_core.routing import Sticky
from lunar_core.settings import SETTING_NAMES, Settings, checked_timeout, hidden
from lunar_core.types.completions import RoutingDecision
from lunar_core.wire.api_requests import ROUTER, check_values
from lunar_core.wire.model_facts import ROUTED, context_window

JSONObject = dict[str, Any]
A = TypeVar("A", bound=ChatResponse | CompletionResponse)
M = TypeVar("M", bound=BaseModel)

Secret = Annotated[SecretStr | Callable[[], str] | None, WithJsonSchema({"type": "string"})]

UNKNOWN_WINDOW = 128_000
"""Tokens that a model is taken to hold of which nothing is known: what nearly all chat models hold today."""

# The fields that decide how the service is reached: ``base_url`` is called as in OpenAILike.
_SETTINGS = {"api_base" if name == "base_url" else name: name for name in SETTING_NAMES}

# Each call asks several times, for its events.
_window_of = lru_cache(maxsize=1_000)(context_window)


class LunarLLM(FunctionCallingLLM):
    """Any model of Lunar, or its router, wherever LlamaIndex takes an LLM.

    Each answer tells what it used and cost: flat in ``response.additional_kwargs`` (``total_cost_usd`` in USD,
    ``prompt_tokens``, ``latency_ms``, ``model``, ``routing``, …) and in ``response.raw["usage"]`` and ``["routing"]``;
    in a stream, on its last response. What the service did not say is absent. To add costs up: ``lunar_cost``.

    The arguments are those of ``OpenAILike``, in its order, so that a program changes its import and no more; each is
    described at its field. Beside the fields: ``base_url`` is ``api_base``; ``extra_body`` is merged into
    ``additional_kwargs``; ``http_client`` and ``async_http_client`` are httpx's or httpx2's clients of your own, left
    open; ``observers`` are asked before each call and told of its outcome (``lunar_core.Observer``: budgets refuse
    there). What has no meaning here (``openai_client``, OpenRouter's ``order``, …) is dropped with a warning.

    One LLM serves any number of threads, tasks and event loops. Copies, deep copies and pickles work at any time;
    copies tell the same observers and callbacks. The key travels in a pickle only where it was given, and in
    ``to_dict()`` never: ``from_dict(data, api_key=…)``, or the environment. Raises ConfigurationError for what cannot
    work; calls raise LunarError (docs: ``lunar_core.errors``).

    >>> llm = LunarLLM(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES)
    >>> answer = llm.complete("Say hello")
    >>> answer.text, answer.raw["model"], f"{answer.additional_kwargs['total_cost_usd']:.8f} USD"
    ('hello', 'gpt-4o-mini', '0.00000135 USD')
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    model: str
    """A Lunar model id (``gpt-4o-mini``), ``provider/model`` to force a provider, or ``router`` to let the service
    choose."""
    temperature: float | None = None
    """From 0 to 2. Sent only where given: OpenAILike sends 0.1 unasked."""
    max_tokens: int | None = None
    """Tokens to generate at most."""
    top_p: float | None = None
    """Sample from the likeliest tokens that make up this share, from 0 to 1."""
    stop: list[str] | None = None
    """Texts at which generation ends."""
    n: int | None = None
    """Answers to one prompt. The first is shown; all are in ``raw``."""
    presence_penalty: float | None = None
    """From -2 to 2: above 0, what was said at all is said less."""
    frequency_penalty: float | None = None
    """From -2 to 2: above 0, what was said often is said less."""
    logprobs: bool | None = None
    """Ask for log probabilities: they are in ``response.logprobs``."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """With ``logprobs``: how many of the likeliest tokens to tell at each place, from 0 to 20."""
    reasoning_effort: str | None = None
    """How long reasoning models may think: "low", "medium", "high", or what the provider knows."""
    modalities: list[str] | None = None
    """What to answer with: ``["text", "audio"]``."""
    audio_config: dict[str, Any] | None = None
    """Voice and format of spoken answers, sent as ``audio``."""
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Any other field of the API, ``extra_body`` too. Keywords of a call win over it."""

    models: list[str] | None = None
    """With the router: the candidates, 2 at least; all that it knows by default."""
    cost_weight: CostWeight | None = None
    """With the router: from 0. Times USD per 1,000 tokens, it is added to a model's expected error:
    ``lunar_core.BREAK_TIES`` picks the cheapest of equals, 20 to 100 trade quality for price. Or a function that
    returns such a number, asked for each routed request; it is not stored."""
    sticky: Sticky = "tools"
    """With the router: stay with the model that answered until its tool calls are answered ("tools"), for the whole
    "conversation", or never ("off")."""
    replay_reasoning: ReplayReasoning = "tools"
    """Send a model its own reasoning again: with the tool calls that are being answered ("tools", as DeepSeek and Kimi
    want it), with each of its answers ("always"), or "never"."""
    provider: str | None = None
    """Force a provider."""
    fallbacks: list[str] | None = None
    """Models to ask, in order, when the first fails; streams too, until their first content."""
    tags: dict[str, str] | None = None
    """What this LLM's calls are for: ledgers add costs up by these names. Tags of a block around a call win."""

    api_key: Secret = Field(default=None, exclude=True, repr=False)
    """The API key, or a function that returns one and is asked for each request. Else LUNAR_API_KEY."""
    jwt: Secret = Field(default=None, exclude=True, repr=False)
    """A token instead of the key, or a function that returns one. Else LUNAR_JWT."""
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    """Sent with every request; kept out of all that is shown or stored, as the key is. Not so a call's own
    ``extra_headers``, which LlamaIndex tells to handlers like any keyword."""
    api_base: str | None = None
    """The service. Else LUNAR_BASE_URL, else the hosted one."""
    api_version: str | None = None
    """Taken, as by OpenAILike, and of no effect."""
    max_retries: int = 2
    """How often a failed request is made again, for each model. 0: never."""
    timeout: Any = None
    """Seconds, ``(connect, read)``, ``lunar_core.Timeout`` or httpx's own. By default 5 to connect, 600 to read."""
    total_timeout: float | None = None
    """Seconds for a whole call: its retries, its fallbacks, and the body of its stream."""
    max_connections: int = 1000
    """Connections that the LLM holds open at most."""
    allow_http: bool = False
    """Whether ``api_base`` may be plain http to another machine."""
    reuse_client: bool = True
    """Taken, as by OpenAILike, and of no effect."""

    context_window: int | None = Field(default=None, gt=0)
    """Tokens that a prompt and its answer may have; else known for common models, 128,000 for others, and for the
    router the smallest of its candidates."""
    is_chat_model: bool = True
    """False: text completions, by POST /v1/completions."""
    is_function_calling_model: bool = True
    """False: objects and tools by LlamaIndex's prompts, for a model or a service that knows no tools."""
    should_use_structured_outputs: bool = False
    """Objects by ``response_format`` rather than by a tool."""
    strict: bool = False
    """Close the schemas of tools and objects: every field required, no others allowed."""
    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    """With ``is_chat_model=False``: what has an ``encode()`` tells how many tokens are left for the answer."""

    _clients: ClientPair = PrivateAttr()
    _settings_of_clients: dict[str, Any] = PrivateAttr()
    _routes: Routes = PrivateAttr(default_factory=Routes)

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
        api_key, jwt = hidden(api_key), hidden(jwt)
        if "max_new_tokens" in kwargs:  # as OpenAILike takes it
            max_tokens = kwargs.pop("max_new_tokens")
        if extra_body:
            additional_kwargs = merge_kwargs(additional_kwargs or {}, {"extra_body": extra_body})
        additional, headers = split_additional(additional_kwargs or {}, default_headers)
        arguments = {
            **kwargs,
            "openai_client": openai_client,
            "async_openai_client": async_openai_client,
        }
        arguments = drop_meaningless(arguments)
        check_names(arguments, type(self).model_fields, type(self).__name__)
        bridge.check_keywords(additional, "additional_kwargs")
        fields: JSONObject = dict(
            model=model,
            temperature=temperature,
            max_tokens=max_tokens,
            additional_kwargs=additional,
            max_retries=max_retries,
            timeout=tuple(timeout) if isinstance(timeout, list) else timeout,
            reuse_client=reuse_client,
            api_key=api_key,
            jwt=jwt,
            api_base=base_url if api_base is None else api_base,
            api_version=api_version,
            callback_manager=callback_manager or CallbackManager([]),
            default_headers=headers,
            system_prompt=system_prompt,
            messages_to_prompt=messages_to_prompt,
            completion_to_prompt=completion_to_prompt,
            pydantic_program_mode=pydantic_program_mode,
            output_parser=output_parser,
            strict=strict,
            reasoning_effort=reasoning_effort,
            modalities=modalities,
            audio_config=audio_config,
            stop=[stop] if isinstance(stop, str) else stop,
            models=models,
            fallbacks=fallbacks,
            **arguments,
        )
        check_values({**fields, **additional})
        refusal: ConfigurationError | None = None
        try:
            super().__init__(**fields)
        except ValidationError as error:
            refusal = refused_field(error)
        if refusal is not None:
            raise refusal  # without the fields: a key is among them
        if self.model == ROUTER and not self.is_chat_model:
            raise ConfigurationError(
                "is_chat_model: the router takes chats only; name a model for text completions"
            )
        self._settings_of_clients = self._settings()
        # The caller's observers come first: a call that they refuse is not reported.
        everyone = (*checked_observers(observers), Reporter())
        settings = Settings.resolve(**self._settings_of_clients)
        self._clients = ClientPair(settings, everyone, http_client, async_http_client)

    # LlamaIndex's endpoints: each is decorated once, and calls nothing that is decorated too, so that an answer
    # ends one event and one span.

    @chat_events
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return self._answer(Requests(self).for_chat(messages, kwargs))

    @chat_events
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Ask, and wait for the whole answer."""
        return await self._aanswer(Requests(self).for_chat(messages, kwargs))

    @closing_stream
    @chat_events
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Ask, and read the answer as it comes. The request is made at once, not at the first read."""
        return self._stream(Requests(self).for_chat(messages, kwargs, stream=True))

    @aclosing_stream
    @chat_events
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Ask, and read the answer as it comes. The request is made at once, not at the first read."""
        return await self._astream(Requests(self).for_chat(messages, kwargs, stream=True))

    @completion_events
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a text: a chat's answer to it, or with ``is_chat_model=False`` its continuation."""
        return self._answer(Requests(self).for_completion(prompt, kwargs, formatted=formatted))

    @completion_events
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Complete a text: a chat's answer to it, or with ``is_chat_model=False`` its continuation."""
        return await self._aanswer(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted)
        )

    @closing_stream
    @completion_events
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Complete a text, and read the answer as it comes. The request is made at once, not at the first read."""
        return self._stream(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted, stream=True)
        )

    @aclosing_stream
    @completion_events
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Complete a text, and read the answer as it comes. The request is made at once, not at the first read."""
        return await self._astream(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted, stream=True)
        )

    # How they are carried out

    def _answer(self, call: ClientCall[A]) -> A:
        responses = Responses(call, self._remember_route)
        with attributed(self.callback_manager, self.tags):
            client = self._current_clients().sync
            answer = call.resource(client).create(**call.params)
        return responses.whole(answer)

    async def _aanswer(self, call: ClientCall[A]) -> A:
        responses = Responses(call, self._remember_route)
        with attributed(self.callback_manager, self.tags):
            client = self._current_clients().asynchronous
            answer = await call.resource(client).create(**call.params)
        return responses.whole(answer)

    def _stream(self, call: ClientCall[A]) -> Generator[A, None, None]:
        responses = Responses(call, self._remember_route)
        with attributed(self.callback_manager, self.tags):
            client = self._current_clients().sync
            stream = close_at_end(call.resource(client).create(stream=True, **call.params))

        def read() -> Generator[A, None, None]:
            for chunk in stream.plain_chunks():
                for response in responses.feed(chunk):  # noqa: UP028  # as its async twin
                    yield response
            yield responses.last(stream)

        return read()

    async def _astream(self, call: ClientCall[A]) -> AsyncGenerator[A, None]:
        responses = Responses(call, self._remember_route)
        with attributed(self.callback_manager, self.tags):
            client = self._current_clients().asynchronous
            stream = close_at_end(await call.resource(client).create(stream=True, **call.params))

        async def read() -> AsyncGenerator[A, None]:
            async for chunk in stream.plain_chunks():
                for response in responses.feed(chunk):  # as its async twin
                    yield response
            yield responses.last(stream)

        return read()

    @field_serializer("timeout")
    def _timeout_as_json(self, timeout: object) -> object:
        """The timeout in seconds, or the seconds of each step: a stored LLM can be made from them again."""
        if timeout is None or isinstance(timeout, (int, float)):
            return timeout
        return list(vars(checked_timeout(timeout)).values())

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex stores it."""
        return "LunarLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex decides by: how much fits into a prompt, whether tools may be used."""
        return LLMMetadata(
            context_window=self.context_window or self._window(),
            num_output=self.max_tokens or -1,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model,
        )

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers: asked before each call, told of its outcome."""
        everyone = self._clients.observers
        return tuple(observer for observer in everyone if not isinstance(observer, Reporter))

    def to_payload(self) -> JSONObject:
        """What events and callbacks are shown of this LLM: neither key nor headers."""
        names = ("api_base", "provider", "models", "cost_weight", "sticky", "fallbacks")
        shown = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {
            "class_name": self.class_name(),
            **self.metadata.model_dump(),
            **without_functions(shown),
        }

    def _window(self) -> int:
        """The smallest window of the models that may answer: the prompt must fit into the one that is chosen."""
        candidates = (self.models or ROUTED) if self.model == ROUTER else (self.model,)
        return min(_window_of(model) or UNKNOWN_WINDOW for model in candidates)

    def _current_clients(self) -> ClientPair:
        """The clients, made anew when a field that they depend on has changed."""
        settings = self._settings()
        if settings != self._settings_of_clients:
            self._clients = self._clients.with_settings(Settings.resolve(**settings))
            self._settings_of_clients, self._routes = settings, Routes()
        return self._clients

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, field) for field, name in _SETTINGS.items()}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # A copy asks and tells the same people: its costs must reach the ledger that its owner reads.
        shared = (self.callback_manager, getattr(self, "rate_limiter", None))
        memo = {} if memo is None else memo
        memo |= {id(part): part for part in shared if part is not None}
        return super().__deepcopy__(memo)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # BaseComponent would run __init__ again, which asks for a key that a pickle need not carry.
        BaseModel.__setstate__(self, state)

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
        return Requests(self).with_tools(
            tools,
            user_msg,
            chat_history,
            allow_parallel_tool_calls=allow_parallel_tool_calls,
            tool_required=tool_required,
            tool_choice=tool_choice,
            strict=strict,
            **kwargs,
        )

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
        """The tools that the model wants called. Raises ValueError if there are none, unless told not to.

        A call that did not come whole is none: the error says so, and names the token limit.
        """
        calls = toolbox.read_selections(response)
        if not calls and error_on_no_tool_call:
            raise explain_missing_call(response, self.max_tokens)
        return calls

    # Structured output

    def structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> M:
        """Fill ``output_cls`` from the answer. Raises ValueError or TypeError for one that doesn't fit."""
        return StructuredOutput(self, Requests(self)).predict(
            output_cls, prompt, llm_kwargs, prompt_args
        )

    async def astructured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> M:
        """Fill ``output_cls`` from the answer. Raises ValueError or TypeError for one that doesn't fit."""
        return await StructuredOutput(self, Requests(self)).apredict(
            output_cls, prompt, llm_kwargs, prompt_args
        )

    def stream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """Fill ``output_cls`` as the answer comes: objects with more and more fields, at last a whole one.

        The request is made at once, not at the first read. Raises ValueError at the end of an answer of which
        nothing could be read.
        """
        return StructuredOutput(self, Requests(self)).stream(
            output_cls, prompt, llm_kwargs, prompt_args
        )

    async def astream_structured_predict(
        self,
        output_cls: type[M],
        prompt: BasePromptTemplate,
        llm_kwargs: JSONObject | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        """As ``stream_structured_predict``, for asyncio."""
        return await StructuredOutput(self, Requests(self)).astream(
            output_cls, prompt, llm_kwargs, prompt_args
        )

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """An LLM whose every answer is an ``output_cls``, in JSON and as ``raw``."""
        return LunarStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    # Routing

    def route(self, messages: str | Sequence[ChatMessage], **kwargs: Any) -> RoutingDecision:
        """Which model the router would choose for ``messages``, and why. Nothing is generated.

        >>> LunarLLM(model="router", models=["gpt-4o", "gpt-4o-mini"]).route("Prove that 2 is even").selected_model
        'gpt-4o'
        """
        with attributed(self.callback_manager, self.tags):
            client = self._current_clients().sync
            return client.router.decide(**Requests(self).for_decision(messages, kwargs))

    async def aroute(self, messages: str | Sequence[ChatMessage], **kwargs: Any) -> RoutingDecision:
        """The same for asyncio."""
        with attributed(self.callback_manager, self.tags):
            client = self._current_clients().asynchronous
            return await client.router.decide(**Requests(self).for_decision(messages, kwargs))

    def find_route(self, messages: Sequence[Mapping[str, Any]]) -> JSONObject | None:
        """The earlier decision to which a conversation, in the form of the API, keeps (``sticky``); None without."""
        return self._routes.find(messages, self.sticky)

    def _remember_route(self, answer: ChatMessage, route: JSONObject) -> None:
        if self.sticky != "off":
            self._routes.remember(to_message(answer), route, self.sticky)

    # Life

    def close(self) -> None:
        """Close the connections of the sync calls. Later ones are refused."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close all connections. Later calls are refused."""
        self._clients.close()
        await self._clients.aclose()


bridge.describe_fields(LunarLLM, FIELD_DESCRIPTIONS)

# LlamaIndex looks these signatures up with every call; kept, they cost it next to nothing.
for _name in ("chat", "stream_chat", "complete", "stream_complete"):
    for _method in (vars(LunarLLM)[_name].__wrapped__, vars(LunarLLM)[f"a{_name}"].__wrapped__):
        _method.__signature__ = inspect.signature(_method)
