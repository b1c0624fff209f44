"""``RouteChooser``: chooses the model that answers a prompt, and another one if routing fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_lunar.chat_models import ChatLunar
from langchain_lunar.errors import model_error
from langchain_lunar.messages import to_wire
from langchain_lunar.router.route import (
    DECISION,
    Model,
    Route,
    adispatch_decision,
    chat_model,
    dispatch_decision,
    find_model,
    profile_names,
)
from langchain_lunar.router.sticky import find_sticky_answer
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
from lunar_core.bridge import CostWeight
from lunar_core.errors import describe_error
from lunar_core.wire.api_requests import OPTIONS, ROUTER, check_values

_COMMON_FAILURES = (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    PermissionDeniedError,
)
"""Failures that any other model would meet as well."""


@dataclass(frozen=True)
class RouteChooser:
    """Chooses the model that answers, by the settings of a router chain. Starts no run: the chain does.

    ``candidate_models``: the models of candidates that are strings, each made at its first use.
    """

    llm: ChatLunar
    models: list[str] | None = None
    cost_weight: CostWeight | None = None
    candidates: Mapping[str, Any] | None = None
    on_routing_error: Literal["raise", "fallback"] = "raise"
    default_model: str | None = None
    candidate_models: dict[str, Model] = field(default_factory=dict)

    def check(self) -> None:
        """Raise ConfigurationError for settings that cannot work."""
        if self.candidates is not None and self.models is not None:
            raise ConfigurationError("models: the candidates are the models; give one of the two")
        models = self.choice_settings().get("models")
        if models is not None and len(models) < 2:
            what = "models" if self.candidates is None else "candidates"
            raise ConfigurationError(f"{what}: a choice needs at least 2 models, not {len(models)}")
        check_values({"cost_weight": self.cost_weight})
        for model_id in self.candidates or ():
            self.candidate(model_id)
        if self.default_model is not None or self.on_routing_error == "fallback":
            self._default()

    def choice_settings(self) -> dict[str, Any]:
        """The settings of the choice that are set here: ``models``, ``cost_weight``."""
        models = self.models if self.candidates is None else list(self.candidates)
        settings = {"models": models, "cost_weight": self.cost_weight}
        return {name: value for name, value in settings.items() if value is not None}

    def settings_metadata(self) -> dict[str, Any]:
        """The settings under their names in the metadata of runs: ``lunar_models``, and so on."""
        settings = {
            "models": self.llm.models,
            "cost_weight": self.llm.cost_weight,
            **self.choice_settings(),
            "on_routing_error": self.on_routing_error,
            "default_model": self.default_model,
        }
        plain = bridge.without_functions(settings)
        return {f"lunar_{name}": value for name, value in plain.items() if value is not None}

    def candidate(self, model_id: str) -> Model:
        """The model of a candidate. Raises ConfigurationError if there is no such candidate, or if it is no model."""
        candidate = (self.candidates or {}).get(model_id)
        if isinstance(candidate, Runnable):
            return candidate
        if isinstance(candidate, str):
            if model_id not in self.candidate_models:
                self.candidate_models[model_id] = chat_model(candidate)
            return self.candidate_models[model_id]
        if candidate is None:
            raise ConfigurationError(f"model: {model_id!r} is not among the candidates")
        raise ConfigurationError(
            f"candidates: {model_id!r} is no chat model and no 'provider:model' string"
        )

    # Asking the router, sync and async -----------------------------------------------------------

    def decide(self, input_: LanguageModelInput, keywords: Mapping[str, Any]) -> RoutingDecision:
        """Ask for Lunar's decision. Nothing is generated. ``keywords`` of the call override the settings."""
        params = self._decide_params(input_, keywords)
        try:
            return self.llm.clients.sync.router.decide(**params)
        except LunarError as error:
            raise model_error(error) from None

    async def adecide(
        self, input_: LanguageModelInput, keywords: Mapping[str, Any]
    ) -> RoutingDecision:
        """Ask for Lunar's decision. Nothing is generated. ``keywords`` of the call override the settings."""
        params = self._decide_params(input_, keywords)
        try:
            return await self.llm.clients.asynchronous.router.decide(**params)
        except LunarError as error:
            raise model_error(error) from None

    def choose(
        self, input_: LanguageModelInput, config: RunnableConfig, keywords: Mapping[str, Any]
    ) -> Route:
        """The route by Lunar's decision, or the default route if that fails. Notifies the callbacks of ``config``."""
        try:
            route = self._route_of(self.decide(input_, keywords), keywords)
        except LunarError as error:
            if not self.may_replace(error):
                raise
            route = self.route_after(error, keywords)
        dispatch_decision(route.decision, config)
        return route

    async def achoose(
        self, input_: LanguageModelInput, config: RunnableConfig, keywords: Mapping[str, Any]
    ) -> Route:
        """The route by Lunar's decision, or the default route if that fails. Notifies the callbacks of ``config``."""
        try:
            route = self._route_of(await self.adecide(input_, keywords), keywords)
        except LunarError as error:
            if not self.may_replace(error):
                raise
            route = self.route_after(error, keywords)
        await adispatch_decision(route.decision, config)
        return route

    def route(
        self, input_: LanguageModelInput, config: RunnableConfig, keywords: Mapping[str, Any]
    ) -> Route:
        """The route for a prompt. The decision is requested only if it has to come before the answer."""
        route = self._route_without_decision(input_, keywords)
        return route or self.choose(input_, config, keywords)

    async def aroute(
        self, input_: LanguageModelInput, config: RunnableConfig, keywords: Mapping[str, Any]
    ) -> Route:
        """The route for a prompt. The decision is requested only if it has to come before the answer."""
        route = self._route_without_decision(input_, keywords)
        return route or await self.achoose(input_, config, keywords)

    # Routes ------------------------------------------------------------------------------------

    def may_replace(self, error: LunarError, route: Route | None = None) -> bool:
        """Whether to ask another model. Not if a model that was already chosen fails: that is no routing error."""
        is_routing_error = route is None or route.is_undecided
        is_mended = self.on_routing_error == "fallback" and not isinstance(error, _COMMON_FAILURES)
        return is_routing_error and is_mended

    def route_after(self, error: LunarError, keywords: Mapping[str, Any]) -> Route:
        """The route to the default model, after routing failed with ``error``."""
        metadata = {"routing_error": describe_error(error)}
        return self.route_to(self._default(), keywords, metadata)

    def route_to(
        self, model_id: str, keywords: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> Route:
        """The route to one model. ``metadata``: what is added to its answer's metadata."""
        if self.candidates is None:
            decision = {DECISION: metadata["routing"]} if "routing" in metadata else {}
            return Route(self.llm, {**keywords, **decision, "model": model_id}, model_id, metadata)
        own = routing.without_router_fields(keywords)
        own.pop("model", None)
        return Route(self.candidate(model_id), own, model_id, metadata)

    def _decide_params(
        self, input_: LanguageModelInput, keywords: Mapping[str, Any]
    ) -> dict[str, Any]:
        settings = {name: getattr(self.llm, name) for name in routing.ROUTER_FIELDS}
        choice = self.choice_settings()
        if self.candidates is not None:
            choice["models"] = profile_names(self.candidates)
        names = {*routing.ROUTER_FIELDS, *OPTIONS}
        own = {name: value for name, value in keywords.items() if name in names}
        return {
            **settings,
            **choice,
            **own,
            "messages": routing.text_turns(to_wire(_messages_of(input_))),
        }

    def _route_without_decision(
        self, input_: LanguageModelInput, keywords: Mapping[str, Any]
    ) -> Route | None:
        """The route that needs no decision before; None if one is needed. Candidates cannot decide as they answer."""
        if self.candidates is None:
            params = {"model": ROUTER, **self.choice_settings(), **keywords}
            return Route(self.llm, params, is_undecided=params["model"] == ROUTER)
        pinned = keywords.get("model")
        if pinned is not None:
            return self.route_to(pinned, keywords, {})
        answer = find_sticky_answer(_messages_of(input_), self.llm.sticky)
        decision = answer.response_metadata.get("routing") if answer is not None else None
        model = (
            find_model(decision.get("selected_model") or "", self.candidates) if decision else None
        )
        return None if model is None else self.route_to(model, keywords, {"routing": decision})

    def _route_of(self, decision: RoutingDecision, keywords: Mapping[str, Any]) -> Route:
        model_id: str | None = decision.selected_model
        if self.candidates is not None:
            model_id = find_model(decision.selected_model, self.candidates)
        if model_id is None:
            listed = ", ".join(self.candidates or ())
            why = f"the router chose {decision.selected_model!r}, none of the candidates {listed}"
            raise model_error(APIResponseValidationError(why))
        return self.route_to(model_id, keywords, {"routing": bridge.routing_dict(decision)})

    def _default(self) -> str:
        """The model to ask if routing fails."""
        models = self.choice_settings().get("models") or self.llm.models or [None]
        default = self.default_model or models[0]
        if default is None:
            raise ConfigurationError("default_model: needed, as there are no models to take one of")
        if self.candidates is not None and default not in self.candidates:
            raise ConfigurationError(f"default_model: {default!r} is not among the candidates")
        return default


def _messages_of(input_: LanguageModelInput) -> list[BaseMessage]:
    if isinstance(input_, PromptValue):
        return input_.to_messages()
    return [HumanMessage(input_)] if isinstance(input_, str) else convert_to_messages(input_)
