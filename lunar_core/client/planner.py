"""Turns the keywords of ``create()`` into a Call and its plan: which requests, in which order. Pure.

``choose_reader`` chooses the function that reads the body of each response.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lunar_core import routing
from lunar_core.checks import (
    Timeout,
    checked_count,
    checked_fallbacks,
    checked_headers,
    checked_seconds,
    checked_timeout,
)
from lunar_core.client import attempts
from lunar_core.client.attempts import Plan, Policy
from lunar_core.client.call import Call, Runtime
from lunar_core.client.notices import CostNotice, warn_of_misspelt
from lunar_core.errors import ConfigurationError
from lunar_core.observers import Endpoint, Observer, current_tags, with_current_observers
from lunar_core.settings import Settings
from lunar_core.wire import answers, api_requests, catalogue
from lunar_core.wire.api_requests import APIRequest
from lunar_core.wire.keywords import check_no_settings


class Planner:
    """Turns keywords into Calls and their plans, for one client."""

    def __init__(
        self,
        settings: Settings,
        observers: Sequence[Observer],
        runtime: Runtime,
        cost_notice: CostNotice,
    ) -> None:
        self.settings = settings
        self.observers = tuple(observers)
        self.runtime = runtime
        self.cost_notice = cost_notice

    def chat(self, keywords: Mapping[str, object]) -> tuple[Call, Plan[object]]:
        options, params = _split(keywords)
        if not routing.is_routed(params):
            params = routing.without_router_fields(params)
            request = api_requests.chat(_with_stream_options(params, options))
            call, fallbacks = self._new_call("chat.completions", request, options)
            return call, attempts.ask(_with_fallbacks(request, fallbacks), call.policy)
        params = routing.with_cost_weight(params)
        if routing.takes_one_request(params):
            return self._router(routing.execute_params(params), options)
        return self._decide_then_chat(params, options)

    def _decide_then_chat(
        self, params: dict[str, object], options: Mapping[str, object]
    ) -> tuple[Call, Plan[object]]:
        asks_usage = {**options, "stream_usage": options.get("stream_usage", True)}
        template = api_requests.chat(
            _with_stream_options(routing.without_router_fields(params), asks_usage)
        )
        decision = api_requests.router(routing.decide_params(params))
        call, fallbacks = self._new_call("chat.completions", template, options, decision.params)
        return call, attempts.decide_then_call(
            decision, template.for_model, fallbacks, call.policy, call.accept_decision
        )

    def text(self, keywords: Mapping[str, object]) -> tuple[Call, Plan[object]]:
        options, params = _split(keywords)
        request = api_requests.text(_with_stream_options(params, options))
        call, fallbacks = self._new_call("completions", request, options)
        return call, attempts.ask(_with_fallbacks(request, fallbacks), call.policy)

    def router(self, keywords: Mapping[str, object]) -> tuple[Call, Plan[object]]:
        options, params = _split(keywords)
        return self._router(routing.with_cost_weight(params), options)

    def _router(
        self, params: dict[str, object], options: Mapping[str, object]
    ) -> tuple[Call, Plan[object]]:
        request = api_requests.router(params)
        decides = params.get("execute") is False
        endpoint: Endpoint = "router.decide" if decides else "router"
        call, fallbacks = self._new_call(endpoint, request, options, request.params)
        chat = routing.without_router_fields(_with_stream_options(params, options))
        chat.pop("execute", None)
        fallback_requests = (
            []
            if decides
            else [api_requests.chat({"model": model, **chat}) for model in dict.fromkeys(fallbacks)]
        )
        return call, attempts.ask([request, *fallback_requests], call.policy)

    def profiles(self) -> tuple[Call, Plan[object]]:
        return self._catalogue(api_requests.profiles())

    def providers(self, model: str | None) -> tuple[Call, Plan[object]]:
        return self._catalogue(api_requests.providers(model))

    def models(self) -> tuple[Call, Plan[object]]:
        call, _ = self._new_call(None, api_requests.models(), {})
        return call, attempts.list_models(call.policy)

    def prices(self) -> tuple[Call, Plan[object]]:
        return self._catalogue(api_requests.priced_models())

    def _catalogue(self, request: APIRequest) -> tuple[Call, Plan[object]]:
        call, _ = self._new_call(None, request, {})
        return call, attempts.ask([request], call.policy)

    def _new_call(
        self,
        endpoint: Endpoint | None,
        request: APIRequest,
        options: Mapping[str, object],
        routed_by: Mapping[str, object] | None = None,
    ) -> tuple[Call, Sequence[str]]:
        """Make a Call and its fallbacks. ``routed_by``: the fields sent to the router, if it chooses the model."""
        settings, clock = self.settings, self.runtime.clock
        overrides = CallOverrides.parse(options)
        total = overrides.total_timeout or settings.total_timeout
        fallbacks = settings.fallbacks if overrides.fallbacks is None else overrides.fallbacks
        retries = settings.max_retries if overrides.max_retries is None else overrides.max_retries
        candidates = routing.candidates(routed_by or {})
        named = candidates if routed_by is not None else (request.model,)
        deadline = None if total is None else clock() + total
        call = Call(
            endpoint=endpoint,
            model=request.model,
            params=request.params,
            timeout=settings.timeout if overrides.timeout is None else overrides.timeout,
            headers=overrides.headers,
            policy=Policy(
                retries,
                self.runtime.jitter,
                lambda: math.inf if deadline is None else deadline - clock(),
            ),
            runtime=self.runtime,
            cost_notice=self.cost_notice,
            deadline=deadline,
            limits=settings.limits,
            observers=with_current_observers(self.observers),
            stream=request.stream,
            tags={**settings.tags, **current_tags()},
            models=tuple(dict.fromkeys((*named, *fallbacks))) if named else (),
            candidates=candidates,
            cost_weight=routing.cost_weight(routed_by or {}),
        )
        return call, fallbacks


class CallOverrides(NamedTuple):
    """The options of one call, checked. They are not sent. None: the client's own setting applies."""

    timeout: Timeout | None
    total_timeout: float | None
    max_retries: int | None
    fallbacks: tuple[str, ...] | None
    headers: Mapping[str, str]

    @classmethod
    def parse(cls, options: Mapping[str, object]) -> CallOverrides:
        """Read them from the keywords of ``create()``. Raises ConfigurationError that names the wrong one."""
        timeout, retries = options.get("timeout"), options.get("max_retries")
        fallbacks = options.get("fallbacks")
        return cls(
            timeout=None if timeout is None else checked_timeout(timeout),
            total_timeout=checked_seconds(options.get("total_timeout"), "total_timeout"),
            max_retries=None if retries is None else checked_count(retries, "max_retries"),
            fallbacks=None if fallbacks is None else checked_fallbacks(fallbacks),
            headers=checked_headers(options.get("extra_headers"), "extra_headers"),
        )


def _with_stream_options(
    params: Mapping[str, object], options: Mapping[str, object]
) -> Mapping[str, object]:
    """The fields of a chat or text completion, with ``stream_options`` if ``stream_usage`` asks for usage.

    POST /v1/router states usage without being asked, and has no such field.
    """
    is_on = options.get("stream_usage")
    if is_on is not None and not isinstance(is_on, bool):
        raise ConfigurationError("stream_usage: expected True or False")
    if is_on and params.get("stream") and "stream_options" not in params:
        return {**params, "stream_options": {"include_usage": True}}
    return params


def _with_fallbacks(request: APIRequest, fallbacks: Sequence[str]) -> list[APIRequest]:
    models = dict.fromkeys(model for model in fallbacks if model != request.model)
    return [request, *map(request.for_model, models)]


def _split(keywords: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Split the keywords into the client's options and the fields to send."""
    check_no_settings(keywords)
    warn_of_misspelt(keywords)
    options = {key: value for key, value in keywords.items() if key in api_requests.OPTIONS}
    return options, api_requests.clean(
        {key: value for key, value in keywords.items() if key not in api_requests.OPTIONS}
    )


def choose_reader(request: APIRequest) -> Callable[[bytes], object]:
    """The function that reads the body of the response. It raises ValueError for a body of another form."""
    if request.path == "/v1/router" and request.params.get("execute") is False:
        return answers.read_decision
    return _READERS[request.path.partition("?")[0]]


_READERS: dict[str, Callable[[bytes], object]] = {
    "/v1/chat/completions": answers.read_chat,
    "/v1/completions": answers.read_text,
    "/v1/router": answers.read_routed,
    "/v1/router/profiles": catalogue.read_profiles,
    "/v1/models": catalogue.read_models,
    "/v1/pricing/models": catalogue.read_models,
    "/v1/providers": catalogue.read_providers,
}
