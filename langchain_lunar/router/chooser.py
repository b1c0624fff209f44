"""What ``LunarRouterChain`` decides: which model answers, and which one if routing fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSerializable
from langchain_core.runnables.config import ensure_config, patch_config
from pydantic import ConfigDict, PrivateAttr

from langchain_lunar.chat_models import ChatLunar
from langchain_lunar.errors import model_error
from langchain_lunar.messages import to_wire
from langchain_lunar.router.route import (
    DECIDED,
    TAG,
    Model,
    Route,
    atell,
    chat_model,
    matching,
    tell,
)
from langchain_lunar.router.sticky import answer_to_stay_with
from lunar_core import (
    APIResponseValidationError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    LunarError,
    PermissionDeniedError,
    RoutingDecision,
    bridge,
    routing,
)
from lunar_core.wire.api_requests import OPTIONS, ROUTER

_CHOICE = ("models", "cost_weight")
_NEVER_MENDED = (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    PermissionDeniedError,
)
"""Failures that would befall any other model as well."""


class Deciding(RunnableSerializable[LanguageModelInput, AIMessage]):
    """The settings of a router chain, and the decisions that follow from them."""

    router: ChatLunar
    """``llm``, by the name under which copies and ``load`` hand on what was made here."""
    models: list[str] | None = None
    cost_weight: float | None = None
    candidates: dict[str, Any] | None = None
    on_routing_error: Literal["raise", "fallback"] = "raise"
    default_model: str | None = None

    model_config = ConfigDict(arbitrary_types_allowed=True)

    _made: dict[str, Model] = PrivateAttr(default_factory=dict)
    """The candidates that were given as strings."""

    def _check(self) -> None:
        if self.candidates is not None and self.models is not None:
            raise ConfigurationError("models: the candidates are the models; give one of the two")
        named = self._choice().get("models")
        if named is not None and len(named) < 2:
            what = "models" if self.candidates is None else "candidates"
            raise ConfigurationError(f"{what}: a choice needs at least 2 models, not {len(named)}")
        for model_id in self.candidates or ():
            self._candidate(model_id)
        if self.default_model is not None or self.on_routing_error == "fallback":
            self._default()

    @property
    def llm(self) -> ChatLunar:
        """The model that is asked: the one that was given, or the one that was made of the settings."""
        return self.router

    def decide(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> RoutingDecision:
        """Which model Lunar would choose, and why. Nothing is generated. ``models``, ``cost_weight``: for this call.

        >>> decisions = RunnableLambda(chain.decide).batch(prompts)  # all at once
        """
        call = cast("Callable[..., RoutingDecision]", self._call_with_config)
        return call(self._decide, input, self._configured(config), run_type="chain", **kwargs)

    async def adecide(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> RoutingDecision:
        """Which model Lunar would choose, and why. Nothing is generated. ``models``, ``cost_weight``: for this call."""
        call = cast("Callable[..., Awaitable[RoutingDecision]]", self._acall_with_config)
        return await call(
            self._adecide, input, self._configured(config), run_type="chain", **kwargs
        )

    def _configured(self, config: RunnableConfig | None) -> RunnableConfig:
        """``config`` with the chain's settings in the metadata, where traces and handlers find them."""
        config = ensure_config(config)
        settings = {
            "models": self.router.models,
            "cost_weight": self.router.cost_weight,
            **self._choice(),
            "on_routing_error": self.on_routing_error,
            "default_model": self.default_model,
        }
        told = {f"lunar_{name}": value for name, value in settings.items() if value is not None}
        return {**config, "metadata": {**told, **(config.get("metadata") or {})}}

    # Decisions, in both colours ------------------------------------------------------------------

    def _route(
        self, input_: LanguageModelInput, config: RunnableConfig, kwargs: Mapping[str, Any]
    ) -> Route:
        return self._given(input_, kwargs) or self._choose(input_, config, kwargs)

    async def _aroute(
        self, input_: LanguageModelInput, config: RunnableConfig, kwargs: Mapping[str, Any]
    ) -> Route:
        return self._given(input_, kwargs) or await self._achoose(input_, config, kwargs)

    def _choose(
        self, input_: LanguageModelInput, config: RunnableConfig, kwargs: Mapping[str, Any]
    ) -> Route:
        try:
            route = self._chosen(self._ask(input_, kwargs), kwargs)
        except LunarError as error:
            if not self._may_mend(error):
                raise
            route = self._instead(error, kwargs)
        tell(route.news, config)
        return route

    async def _achoose(
        self, input_: LanguageModelInput, config: RunnableConfig, kwargs: Mapping[str, Any]
    ) -> Route:
        try:
            route = self._chosen(await self._aask(input_, kwargs), kwargs)
        except LunarError as error:
            if not self._may_mend(error):
                raise
            route = self._instead(error, kwargs)
        await atell(route.news, config)
        return route

    def _decide(
        self,
        input_: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> RoutingDecision:
        decision = self._ask(input_, kwargs)
        child = patch_config(config, callbacks=run_manager.get_child(TAG))
        tell(bridge.routing_dict(decision) or {}, child)
        return decision

    async def _adecide(
        self,
        input_: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> RoutingDecision:
        decision = await self._aask(input_, kwargs)
        child = patch_config(config, callbacks=run_manager.get_child(TAG))
        await atell(bridge.routing_dict(decision) or {}, child)
        return decision

    def _ask(self, input_: LanguageModelInput, kwargs: Mapping[str, Any]) -> RoutingDecision:
        params = self._decide_params(input_, kwargs)
        try:
            return self.router._client().router.decide(**params)
        except LunarError as error:
            raise model_error(error) from None

    async def _aask(self, input_: LanguageModelInput, kwargs: Mapping[str, Any]) -> RoutingDecision:
        params = self._decide_params(input_, kwargs)
        try:
            return await self.router._async_client().router.decide(**params)
        except LunarError as error:
            raise model_error(error) from None

    # For the middleware, whose models are asked by the agent

    def _preview(
        self,
        input_: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> dict[str, Any]:
        child = patch_config(config, callbacks=run_manager.get_child(TAG))
        return dict(self._choose(input_, child, {}).news)

    async def _apreview(
        self,
        input_: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
    ) -> dict[str, Any]:
        child = patch_config(config, callbacks=run_manager.get_child(TAG))
        return dict((await self._achoose(input_, child, {})).news)

    # Who answers -------------------------------------------------------------------------------

    def _choice(self) -> dict[str, Any]:
        """What the choice is made by, as far as it was said here: ``models``, ``cost_weight``."""
        models = self.models if self.candidates is None else list(self.candidates)
        given = {"models": models, "cost_weight": self.cost_weight}
        return {name: value for name, value in given.items() if value is not None}

    def _decide_params(
        self, input_: LanguageModelInput, kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        of_router = {name: getattr(self.router, name) for name in _CHOICE}
        given = {name: value for name, value in kwargs.items() if name in {*_CHOICE, *OPTIONS}}
        return {
            **of_router,
            **self._choice(),
            **given,
            "messages": routing.text_turns(to_wire(self._messages(input_))),
        }

    def _given(self, input_: LanguageModelInput, kwargs: Mapping[str, Any]) -> Route | None:
        """Who is asked at once. None if that has to be decided first: candidates don't decide as they answer."""
        if self.candidates is None:
            asked = {"model": ROUTER, **self._choice(), **kwargs}
            return Route(self.router, asked, is_open=asked["model"] == ROUTER)
        pinned = kwargs.get("model")
        if pinned is not None:
            return self._of(pinned, kwargs, {})
        last = answer_to_stay_with(self._messages(input_), self.router.sticky)
        decided = last.response_metadata.get("routing") if last is not None else None
        stay = matching(decided.get("selected_model") or "", self.candidates) if decided else None
        return None if stay is None else self._of(stay, kwargs, {"routing": decided})

    def _messages(self, input_: LanguageModelInput) -> list[BaseMessage]:
        return self.router._convert_input(input_).to_messages()

    def _chosen(self, decision: RoutingDecision, kwargs: Mapping[str, Any]) -> Route:
        model_id: str | None = decision.selected_model
        if self.candidates is not None:
            model_id = matching(decision.selected_model, self.candidates)
        if model_id is None:
            listed = ", ".join(self.candidates or ())
            why = f"the router chose {decision.selected_model!r}, none of the candidates {listed}"
            raise model_error(APIResponseValidationError(why))
        return self._of(model_id, kwargs, {"routing": bridge.routing_dict(decision)})

    def _may_mend(self, error: LunarError, failed: Route | None = None) -> bool:
        """Whether another model is to be asked. A model that was chosen before and then failed was no routing."""
        was_routing = failed is None or failed.is_open
        mends = self.on_routing_error == "fallback" and not isinstance(error, _NEVER_MENDED)
        return was_routing and mends

    def _instead(self, error: LunarError, kwargs: Mapping[str, Any]) -> Route:
        """Who is asked when routing failed."""
        told = {"routing_error": f"{type(error).__name__}: {error}"}
        return self._of(self._default(), kwargs, told)

    def _of(self, model_id: str, kwargs: Mapping[str, Any], told: Mapping[str, Any]) -> Route:
        if self.candidates is None:
            decided = {DECIDED: told["routing"]} if "routing" in told else {}
            return Route(self.router, {**kwargs, **decided, "model": model_id}, model_id, told)
        asked = {name: value for name, value in kwargs.items() if name not in {*_CHOICE, "model"}}
        return Route(self._candidate(model_id), asked, model_id, told)

    def _default(self) -> str:
        """The model to ask when routing fails."""
        models = self._choice().get("models") or self.router.models or [None]
        default = self.default_model or models[0]
        if default is None:
            raise ConfigurationError("default_model: needed, as there are no models to take one of")
        if self.candidates is not None and default not in self.candidates:
            raise ConfigurationError(f"default_model: {default!r} is not among the candidates")
        return default

    def _candidate(self, model_id: str) -> Model:
        found = (self.candidates or {}).get(model_id)
        if isinstance(found, Runnable):
            return found
        if isinstance(found, str):
            if model_id not in self._made:
                self._made[model_id] = chat_model(found)
            return self._made[model_id]
        if found is None:
            raise ConfigurationError(f"model: {model_id!r} is not among the candidates")
        raise ConfigurationError(
            f"candidates: {model_id!r} is no chat model and no 'provider:model' string"
        )

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the candidates that were made from strings: they are made again."""
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_made": {}}
        return {**state, "__pydantic_private__": private}
