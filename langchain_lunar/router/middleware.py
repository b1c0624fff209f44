"""``LunarRoutingMiddleware``: Lunar chooses the model of a LangChain agent, for each call or for each run.

Needs the extra ``agents``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from typing_extensions import NotRequired

from langchain_lunar.chat_models import ChatLunar
from langchain_lunar.router.chain import LunarRouterChain
from langchain_lunar.router.route import Route
from lunar_core import ConfigurationError
from lunar_core.extras import install_command

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ModelRequest,
        ModelResponse,
        OmitFromSchema,
        TracePolicy,
        omit_payload,
    )
    from langgraph.runtime import Runtime
except ImportError as error:
    raise ImportError(
        f"langchain_lunar.middleware needs langchain and langgraph: {install_command('agents')}"
    ) from error


class LunarRoutingState(AgentState[Any]):
    """The agent's state, with the decision of the run as plain JSON, which every checkpointer can store."""

    lunar_routing: NotRequired[Annotated[dict[str, Any], OmitFromSchema(input=True, output=False)]]


class LunarRoutingMiddleware(AgentMiddleware[LunarRoutingState, Any, Any]):
    """Let Lunar choose the model of ``create_agent``. Tools, structured output and streaming work as before.

    ``per="call"``: choose before each call of the model, by the conversation so far. ``per="run"``: choose once, by the
    messages that the agent is given; the decision is then in the agent's state, under ``lunar_routing``. The other
    settings are those of ``LunarRouterChain``, or a chain of yours. With its ``candidates``, Lunar chooses among your
    own models of any vendor. Without, the agent's ChatLunar (else the chain's own) is asked for the chosen model.
    Answers have the decision in ``response_metadata["routing"]``.

    >>> agent = create_agent(
    ...     ChatLunar(model="router"),
    ...     tools=[get_weather],
    ...     middleware=[LunarRoutingMiddleware(models=["gpt-4o", "gpt-4o-mini"], cost_weight=20)],
    ... )
    """

    state_schema = LunarRoutingState
    # The conversation is in the trace of the model's own run; once is enough.
    trace_policy = TracePolicy(process_inputs=omit_payload)

    def __init__(
        self,
        chain: LunarRouterChain | None = None,
        *,
        per: Literal["call", "run"] = "call",
        **settings: Any,
    ) -> None:
        if per not in {"call", "run"}:
            raise ConfigurationError(f"per: expected 'call' or 'run', not {per!r}")
        if chain is not None and settings:
            raise ConfigurationError(
                f"{', '.join(sorted(settings))}: set this on the chain instead"
            )
        self.per = per
        self.chain = chain or LunarRouterChain(**settings)
        candidate = self.chain.chooser.candidate
        for model_id in self.chain.candidates or ():
            if not isinstance(candidate(model_id), BaseChatModel):
                raise ConfigurationError(f"candidates: {model_id!r}: an agent needs a chat model")

    def before_agent(
        self, state: LunarRoutingState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Decide for the whole run, with ``per="run"``."""
        if self.per == "call":
            return None
        return {"lunar_routing": self._choose(state["messages"])}

    async def abefore_agent(
        self, state: LunarRoutingState, runtime: Runtime[Any]
    ) -> dict[str, Any] | None:
        """Decide for the whole run, with ``per="run"``."""
        if self.per == "call":
            return None
        return {"lunar_routing": await self._achoose(state["messages"])}

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Call the chosen model."""
        route = self._route(_decision_of_run(request) or self._choose(_conversation(request)))
        return _annotate(handler(_route_request(request, route)), route)

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Call the chosen model."""
        route = self._route(
            _decision_of_run(request) or await self._achoose(_conversation(request))
        )
        return _annotate(await handler(_route_request(request, route)), route)

    def _choose(self, messages: Sequence[BaseMessage]) -> dict[str, Any]:
        """The decision as plain JSON, made in a run of its own. If it fails: the default model and the error."""
        run: Runnable[Any, dict[str, Any]] = RunnableLambda(
            self._decision, name=self.chain.get_name()
        )
        return run.invoke(messages, {"metadata": self.chain.chooser.settings_metadata()})

    async def _achoose(self, messages: Sequence[BaseMessage]) -> dict[str, Any]:
        """The decision as plain JSON, made in a run of its own. If it fails: the default model and the error."""
        run: Runnable[Any, dict[str, Any]] = RunnableLambda(
            self._adecision, name=self.chain.get_name()
        )
        return await run.ainvoke(messages, {"metadata": self.chain.chooser.settings_metadata()})

    def _decision(self, messages: Sequence[BaseMessage], config: RunnableConfig) -> dict[str, Any]:
        route = self.chain.chooser.choose(messages, config, {})
        return dict(route.decision)

    async def _adecision(
        self, messages: Sequence[BaseMessage], config: RunnableConfig
    ) -> dict[str, Any]:
        route = await self.chain.chooser.achoose(messages, config, {})
        return dict(route.decision)

    def _route(self, decision: Mapping[str, Any]) -> Route:
        failure = {key: decision[key] for key in ("routing_error",) if key in decision}
        metadata = failure or {"routing": dict(decision)}
        return self.chain.chooser.route_to(decision["selected_model"], {}, metadata)


def _decision_of_run(request: ModelRequest[Any]) -> Mapping[str, Any] | None:
    decision = cast("Mapping[str, Any]", request.state).get("lunar_routing")
    return decision if isinstance(decision, Mapping) else None


def _conversation(request: ModelRequest[Any]) -> list[BaseMessage]:
    system = [request.system_message] if request.system_message is not None else []
    return [*system, *request.messages]


def _route_request(request: ModelRequest[Any], route: Route) -> ModelRequest[Any]:
    """The request with the chosen model. The agent's own ChatLunar is asked for it by name."""
    settings = {**request.model_settings, **route.kwargs}
    by_name = "model" in route.kwargs and isinstance(request.model, ChatLunar)
    model = request.model if by_name else cast("BaseChatModel", route.model)
    return request.override(model=model, model_settings=settings)


def _annotate(response: ModelResponse[Any], route: Route) -> ModelResponse[Any]:
    result = [
        route.annotate(message) if isinstance(message, AIMessage) else message
        for message in response.result
    ]
    return replace(response, result=result)
