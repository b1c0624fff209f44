"""What a run of LunarRouterChain does: it asks for a route, calls its model, and asks again if that model fails."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import patch_config

from langchain_lunar.router.chooser import RouteChooser
from langchain_lunar.router.route import TAG, adispatch_decision, dispatch_decision
from lunar_core import LunarError, RoutingDecision, bridge


class RouteRuns:
    """The functions that LangChain calls within a run: with its callbacks' manager and its config."""

    def __init__(self, chooser: RouteChooser) -> None:
        self._chooser = chooser

    def decide(
        self,
        input_: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> RoutingDecision:
        """Dispatch and return the decision alone."""
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        decision = self._chooser.decide(input_, kwargs)
        dispatch_decision(bridge.routing_dict(decision) or {}, config)
        return decision

    async def adecide(
        self,
        input_: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> RoutingDecision:
        """The same for asyncio."""
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        decision = await self._chooser.adecide(input_, kwargs)
        await adispatch_decision(bridge.routing_dict(decision) or {}, config)
        return decision

    def invoke(
        self,
        input_: LanguageModelInput,
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AIMessage:
        """The answer of the model that was chosen, or of another one if that fails. Dispatches the decision."""
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        chooser = self._chooser
        route = chooser.route(input_, config, kwargs)
        while True:
            try:
                answer: AIMessage = route.model.invoke(input_, config, **route.kwargs)
            except LunarError as error:
                if not chooser.may_replace(error, route):
                    raise
                route = chooser.route_after(error, kwargs)
                dispatch_decision(route.decision, config)
            else:
                dispatch_decision(route.decision_in(answer), config)
                return route.annotate(answer)

    async def ainvoke(
        self,
        input_: LanguageModelInput,
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AIMessage:
        """The same for asyncio."""
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        chooser = self._chooser
        route = await chooser.aroute(input_, config, kwargs)
        while True:
            try:
                answer: AIMessage = await route.model.ainvoke(input_, config, **route.kwargs)
            except LunarError as error:
                if not chooser.may_replace(error, route):
                    raise
                route = chooser.route_after(error, kwargs)
                await adispatch_decision(route.decision, config)
            else:
                await adispatch_decision(route.decision_in(answer), config)
                return route.annotate(answer)

    def stream(
        self,
        inputs: Iterator[LanguageModelInput],
        run_manager: CallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> Iterator[AIMessage]:
        """The same in chunks. Another model answers only if none has come."""
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        input_ = next(inputs)
        chooser = self._chooser
        route = chooser.route(input_, config, kwargs)
        while True:
            has_begun = False
            chunks = route.model.stream(input_, config, **route.kwargs)
            try:
                with closing(cast("Generator[AIMessage, None, None]", chunks)):
                    for chunk in chunks:
                        dispatch_decision(route.decision_in(chunk), config)
                        yield chunk if has_begun else route.annotate(chunk)
                        has_begun = True
            except LunarError as error:
                if has_begun or not chooser.may_replace(error, route):
                    raise
                route = chooser.route_after(error, kwargs)
                dispatch_decision(route.decision, config)
            else:
                return

    async def astream(
        self,
        inputs: AsyncIterator[LanguageModelInput],
        run_manager: AsyncCallbackManagerForChainRun,
        config: RunnableConfig,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessage]:
        """The same for asyncio."""
        config = patch_config(config, callbacks=run_manager.get_child(TAG))
        input_ = await anext(inputs)
        chooser = self._chooser
        route = await chooser.aroute(input_, config, kwargs)
        while True:
            has_begun = False
            chunks = route.model.astream(input_, config, **route.kwargs)
            try:
                async with aclosing(cast("AsyncGenerator[AIMessage, None]", chunks)):
                    async for chunk in chunks:
                        await adispatch_decision(route.decision_in(chunk), config)
                        yield chunk if has_begun else route.annotate(chunk)
                        has_begun = True
            except LunarError as error:
                if has_begun or not chooser.may_replace(error, route):
                    raise
                route = chooser.route_after(error, kwargs)
                await adispatch_decision(route.decision, config)
            else:
                return
