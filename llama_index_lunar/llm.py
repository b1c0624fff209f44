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
from llama_index_lunar.arguments import make_fields, refused_field
from llama_index_lunar.calls import Calls
from llama_index_lunar.compat import FIELD_DESCRIPTIONS
from llama_index_lunar.endpoints import (
    aclosing_stream,
    chat_events,
    closing_stream,
    completion_events,
)
from llama_index_lunar.errors import explain_missing_call
from llama_index_lunar.messages import ReplayReasoning, to_message
from llama_index_lunar.reporter import Reporter
from llama_index_lunar.requests import Requests
from llama_index_lunar.routes import Routes
from llama_index_lunar.structured import LunarStructuredLLM, StructuredOutput
from lunar_core import bridge
from lunar_core.bridge import CostWeight, without_functions
from lunar_core.checks import checked_timeout
from lunar_core.client.pair import ClientPair
from lunar_core.credentials import hide_secret
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Observer, checked_observers
from lunar_core.routing import Sticky
from lunar_core.settings import SETTING_NAMES, Settings
from lunar_core.types.completions import RoutingDecision
from lunar_core.wire.api_requests import ROUTER
from lunar_core.wire.model_facts import ROUTED, context_window

JSONObject = dict[str, Any]
A = TypeVar("A", bound=ChatResponse | CompletionResponse)
M = TypeVar("M", bound=BaseModel)

Secret = Annotated[SecretStr | Callable[[], str] | None, WithJsonSchema({"type": "string"})]

UNKNOWN_WINDOW = 128_000
"""The context window, in tokens, that is assumed for an unknown model: nearly all chat models have it."""

# The fields of the client's settings. ``base_url`` has OpenAILike's name.
_SETTINGS = {"api_base" if name == "base_url" else name: name for name in SETTING_NAMES}

# Cached, because LlamaIndex reads ``metadata`` several times for each call.
_window_of = lru_cache(maxsize=1_000)(context_window)


class LunarLLM(FunctionCallingLLM):
    """Any model of Lunar, or its router, wherever LlamaIndex takes an LLM.

    Each answer states its usage and cost: flat in ``response.additional_kwargs`` (``total_cost_usd`` in USD,
    ``prompt_tokens``, ``latency_ms``, ``model``, ``routing``, …), and in ``response.raw["usage"]`` and ``["routing"]``;
    in a stream, on its last response. What the service did not state is absent. To add costs up: ``lunar_cost``.

    The arguments are those of ``OpenAILike``, in its order, so that a program only has to change its import. Each is
    described at its field. Beside the fields: ``base_url`` is the same as ``api_base``; ``extra_body`` is merged into
    ``additional_kwargs``; ``http_client`` and ``async_http_client`` are your own clients of httpx or httpx2, which are
    left open; ``observers`` may refuse a call, and are notified of its outcome (``lunar_core.Observer``). Arguments
    that mean nothing here (``openai_client``, OpenRouter's ``order``, …) are dropped with a warning.

    One LLM serves any number of threads, tasks and event loops. It can be copied, deep-copied and pickled at any time;
    copies share observers and callbacks. A pickle holds the key only if it was passed as an argument, ``to_dict()``
    never does: use ``from_dict(data, api_key=…)``, or the environment. Raises ConfigurationError for a wrong argument;
    calls raise LunarError (see ``lunar_core.errors``).

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
    """From 0 to 2. Sent only if set, while OpenAILike sends 0.1 by default."""
    max_tokens: int | None = None
    """Tokens to generate at most."""
    top_p: float | None = None
    """Sample from the likeliest tokens that make up this share, from 0 to 1."""
    stop: list[str] | None = None
    """Texts at which generation ends."""
    n: int | None = None
    """How many answers to one prompt. The first is the response; all are in ``raw``."""
    presence_penalty: float | None = None
    """From -2 to 2: above 0, what was said at all is said less."""
    frequency_penalty: float | None = None
    """From -2 to 2: above 0, what was said often is said less."""
    logprobs: bool | None = None
    """Ask for log probabilities: they are in ``response.logprobs``."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """With ``logprobs``: how many of the likeliest tokens to return at each place, from 0 to 20."""
    reasoning_effort: str | None = None
    """How long reasoning models may think: "low", "medium", "high", or what the provider knows."""
    modalities: list[str] | None = None
    """What to answer with: ``["text", "audio"]``."""
    audio_config: dict[str, Any] | None = None
    """Voice and format of spoken answers, sent as ``audio``."""
    additional_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Any other field of the API, ``extra_body`` too. Keywords of a call override it."""

    models: list[str] | None = None
    """With the router: the models to choose from, at least 2; default all that it knows."""
    cost_weight: CostWeight | None = None
    """With the router: 0 or more. The weight times USD per 1,000 tokens is added to a model's expected error:
    ``lunar_core.BREAK_TIES`` picks the cheapest of equals, 20 to 100 trade quality for price. Or a function that
    returns the number and is called for each routed request; it is not stored."""
    sticky: Sticky = "tools"
    """With the router: stay with the model that answered until its tool calls are answered ("tools"), for the whole
    "conversation", or never ("off")."""
    replay_reasoning: ReplayReasoning = "tools"
    """Send a model its own reasoning again: with the tool calls that are being answered ("tools", as DeepSeek and Kimi
    want it), with each of its answers ("always"), or "never"."""
    provider: str | None = None
    """The provider that must serve the model."""
    fallbacks: list[str] | None = None
    """Models to ask, in order, when the first fails; streams too, until their first content."""
    tags: dict[str, str] | None = None
    """What this LLM's calls are for: ledgers add costs up by these names. Tags of a block override them."""

    api_key: Secret = Field(default=None, exclude=True, repr=False)
    """The API key, or a function that returns one and is called for each request. Default: LUNAR_API_KEY."""
    jwt: Secret = Field(default=None, exclude=True, repr=False)
    """A token instead of the key, or a function that returns one. Default: LUNAR_JWT."""
    default_headers: dict[str, str] | None = Field(default=None, exclude=True, repr=False)
    """Sent with every request, and never shown or stored, like the key. A call's own ``extra_headers`` are not hidden:
    LlamaIndex passes them to handlers like any keyword."""
    api_base: str | None = None
    """The service. Default: LUNAR_BASE_URL, else the hosted one."""
    api_version: str | None = None
    """Accepted as by OpenAILike; has no effect."""
    max_retries: int = 2
    """How often a failed request is retried, for each model. 0: never."""
    timeout: Any = None
    """Seconds, ``(connect, read)``, ``lunar_core.Timeout`` or httpx's own. By default 5 to connect, 600 to read."""
    total_timeout: float | None = None
    """Seconds for a whole call: its retries, its fallbacks, and the body of its stream."""
    max_connections: int = 1000
    """How many connections the LLM may hold open."""
    allow_http: bool = False
    """Whether ``api_base`` may be plain http to another machine."""
    reuse_client: bool = True
    """Accepted as by OpenAILike; has no effect."""

    context_window: int | None = Field(default=None, gt=0)
    """Tokens of prompt and answer together. Default: the known window of common models, 128,000 for others; for the
    router the smallest of its candidates."""
    is_chat_model: bool = True
    """False: text completions, by POST /v1/completions."""
    is_function_calling_model: bool = True
    """False: objects and tools through LlamaIndex's prompts, for a model or a service without tools."""
    should_use_structured_outputs: bool = False
    """True: objects through ``response_format`` instead of a tool."""
    strict: bool = False
    """True: close the schemas of tools and objects: every field required, no others allowed."""
    tokenizer: Any = Field(default=None, exclude=True, repr=False)
    """With ``is_chat_model=False``: an object with ``encode()``, to count the tokens that are left for the answer."""

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
        http_client: Any = None,  # httpx's or httpx2's: no type names both
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
        *,  # up to here in OpenAILike's order, for positional arguments
        jwt: str | SecretStr | Callable[[], str] | None = None,
        base_url: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        observers: Sequence[Observer] = (),
        stop: str | Sequence[str] | None = None,
        models: Sequence[str] | None = None,
        fallbacks: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        api_key, jwt = hide_secret(api_key), hide_secret(jwt)
        fields = make_fields(
            dict(
                model=model,
                temperature=temperature,
                max_tokens=max_tokens,
                additional_kwargs=additional_kwargs,
                max_retries=max_retries,
                timeout=timeout,
                reuse_client=reuse_client,
                api_key=api_key,
                jwt=jwt,
                api_base=base_url if api_base is None else api_base,
                api_version=api_version,
                callback_manager=callback_manager or CallbackManager([]),
                default_headers=default_headers,
                openai_client=openai_client,
                async_openai_client=async_openai_client,
                system_prompt=system_prompt,
                messages_to_prompt=messages_to_prompt,
                completion_to_prompt=completion_to_prompt,
                pydantic_program_mode=pydantic_program_mode,
                output_parser=output_parser,
                strict=strict,
                reasoning_effort=reasoning_effort,
                modalities=modalities,
                audio_config=audio_config,
                extra_body=extra_body,
                stop=stop,
                models=models,
                fallbacks=fallbacks,
                **kwargs,
            ),
            type(self),
        )
        refusal: ConfigurationError | None = None
        try:
            super().__init__(**fields)
        except ValidationError as error:
            refusal = refused_field(error)
        if refusal is not None:
            raise refusal  # outside of the except block, whose error holds the key
        if self.model == ROUTER and not self.is_chat_model:
            raise ConfigurationError(
                "is_chat_model: the router takes chats only; name a model for text completions"
            )
        self._settings_of_clients = self._settings()
        # The caller's observers come first: LlamaIndex gets no event for a call that they refuse.
        everyone = (*checked_observers(observers), Reporter())
        settings = Settings.resolve(**self._settings_of_clients)
        self._clients = ClientPair(settings, everyone, http_client, async_http_client)

    # LlamaIndex's endpoints. None calls another decorated method: each answer has one event and one span.

    @chat_events
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Send ``messages``, and return the whole answer."""
        return self._calls().answer(Requests(self).for_chat(messages, kwargs))

    @chat_events
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Send ``messages``, and return the whole answer."""
        return await self._calls().aanswer(Requests(self).for_chat(messages, kwargs))

    @closing_stream
    @chat_events
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Send ``messages``, and yield the answer as it comes. The request is sent at once, not at the first read."""
        return self._calls().stream(Requests(self).for_chat(messages, kwargs, stream=True))

    @aclosing_stream
    @chat_events
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """Send ``messages``, and yield the answer as it comes. The request is sent at once, not at the first read."""
        return await self._calls().astream(Requests(self).for_chat(messages, kwargs, stream=True))

    @completion_events
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Complete a text: a chat's answer to it, or with ``is_chat_model=False`` its continuation."""
        return self._calls().answer(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted)
        )

    @completion_events
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """Complete a text: a chat's answer to it, or with ``is_chat_model=False`` its continuation."""
        return await self._calls().aanswer(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted)
        )

    @closing_stream
    @completion_events
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """Complete a text, and yield it as it comes. The request is sent at once, not at the first read."""
        return self._calls().stream(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted, stream=True)
        )

    @aclosing_stream
    @completion_events
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Complete a text, and yield it as it comes. The request is sent at once, not at the first read."""
        return await self._calls().astream(
            Requests(self).for_completion(prompt, kwargs, formatted=formatted, stream=True)
        )

    def _calls(self) -> Calls:
        return Calls(
            self._current_clients(), self.callback_manager, self.tags, self._remember_route
        )

    @field_serializer("timeout")
    def _timeout_as_json(self, timeout: object) -> object:
        """The timeout in seconds, or the seconds of each step, so that a stored LLM can be loaded again."""
        if timeout is None or isinstance(timeout, (int, float)):
            return timeout
        return list(vars(checked_timeout(timeout)).values())

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex stores this class."""
        return "LunarLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """Facts that LlamaIndex decides by: the context window, and whether tools may be used."""
        return LLMMetadata(
            context_window=self.context_window or self._window(),
            num_output=self.max_tokens or -1,
            is_chat_model=self.is_chat_model,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self.model,
        )

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers, which may refuse a call and are notified of its outcome."""
        everyone = self._clients.observers
        return tuple(observer for observer in everyone if not isinstance(observer, Reporter))

    def to_payload(self) -> JSONObject:
        """The description of this LLM for events and callbacks: without key and headers."""
        names = ("api_base", "provider", "models", "cost_weight", "sticky", "fallbacks")
        shown = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {
            "class_name": self.class_name(),
            **self.metadata.model_dump(),
            **without_functions(shown),
        }

    def _window(self) -> int:
        """The smallest context window of the models that may answer: the prompt must fit the chosen one."""
        candidates = (self.models or ROUTED) if self.model == ROUTER else (self.model,)
        return min(_window_of(model) or UNKNOWN_WINDOW for model in candidates)

    def _current_clients(self) -> ClientPair:
        """The clients, made anew if a field that they depend on has changed."""
        settings = self._settings()
        if settings != self._settings_of_clients:
            self._clients = self._clients.with_settings(Settings.resolve(**settings))
            self._settings_of_clients, self._routes = settings, Routes()
        return self._clients

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, field) for field, name in _SETTINGS.items()}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # A copy keeps callbacks and rate limiter: its costs must reach the ledger that the original has.
        shared = (self.callback_manager, getattr(self, "rate_limiter", None))
        memo = {} if memo is None else memo
        memo |= {id(part): part for part in shared if part is not None}
        return super().__deepcopy__(memo)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # BaseComponent would run __init__ again, which requires a key that a pickle need not hold.
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
        """The tool calls of a response. Raises ValueError if there are none and ``error_on_no_tool_call`` is True.

        An incomplete call is left out: the error then says so, and names the token limit.
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
        """Ask for an ``output_cls`` and return it. Raises ValueError or TypeError for an answer that does not fit."""
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
        """Ask for an ``output_cls`` and return it. Raises ValueError or TypeError for an answer that does not fit."""
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
        """Ask for an ``output_cls`` and yield it as it comes: objects with more and more fields, at last the whole one.

        The request is sent at once, not at the first read. Raises ValueError at the end if the answer held no object.
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
        """The same as ``stream_structured_predict``, for asyncio."""
        return await StructuredOutput(self, Requests(self)).astream(
            output_cls, prompt, llm_kwargs, prompt_args
        )

    def as_structured_llm(self, output_cls: type[BaseModel], **kwargs: Any) -> StructuredLLM:
        """An LLM whose every answer is an ``output_cls``: as JSON in its text, as an object in ``raw``."""
        return LunarStructuredLLM(llm=self, output_cls=output_cls, **kwargs)

    # Routing

    def route(self, messages: str | Sequence[ChatMessage], **kwargs: Any) -> RoutingDecision:
        """Ask which model the router would choose for ``messages``, and why. Nothing is generated.

        >>> LunarLLM(model="router", models=["gpt-4o", "gpt-4o-mini"]).route("Prove that 2 is even").selected_model
        'gpt-4o'
        """
        return self._calls().decide(Requests(self).for_decision(messages, kwargs))

    async def aroute(self, messages: str | Sequence[ChatMessage], **kwargs: Any) -> RoutingDecision:
        """The same for asyncio."""
        return await self._calls().adecide(Requests(self).for_decision(messages, kwargs))

    def find_route(self, messages: Sequence[Mapping[str, Any]]) -> JSONObject | None:
        """The earlier decision that a conversation in the form of the API keeps to (``sticky``); None without."""
        return self._routes.find(messages, self.sticky)

    def _remember_route(self, answer: ChatMessage, route: JSONObject) -> None:
        if self.sticky != "off":
            self._routes.remember(to_message(answer), route, self.sticky)

    # Closing

    def close(self) -> None:
        """Close the connections of sync calls; later ones fail."""
        self._clients.close()

    async def aclose(self) -> None:
        """Close all connections; later calls fail."""
        self._clients.close()
        await self._clients.aclose()


bridge.describe_fields(LunarLLM, FIELD_DESCRIPTIONS)

# LlamaIndex inspects these signatures with every call; a stored one costs next to nothing.
for _name in ("chat", "stream_chat", "complete", "stream_complete"):
    for _method in (vars(LunarLLM)[_name].__wrapped__, vars(LunarLLM)[f"a{_name}"].__wrapped__):
        _method.__signature__ = inspect.signature(_method)
