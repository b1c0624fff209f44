"""Makes one call of the client for an endpoint of LlamaIndex's, and converts its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.callbacks import CallbackManager

from llama_index_lunar.attribution import attribute_calls
from llama_index_lunar.client_call import ClientCall
from llama_index_lunar.endpoints import close_at_end
from llama_index_lunar.responses import Responses
from lunar_core.client.pair import ClientPair
from lunar_core.types.completions import RoutingDecision

JSONObject = dict[str, Any]
A = TypeVar("A", bound=ChatResponse | CompletionResponse)


class Calls:
    """Makes the calls of an LLM by ``clients``, attributed to its ``callbacks`` and its ``tags``.

    ``remember_route``: called with the message and the route of each routed answer.
    """

    def __init__(
        self,
        clients: ClientPair,
        callbacks: CallbackManager | None,
        tags: Mapping[str, str] | None,
        remember_route: Callable[[ChatMessage, JSONObject], None],
    ) -> None:
        self._clients = clients
        self._callbacks = callbacks
        self._tags = tags
        self._remember_route = remember_route

    def answer(self, call: ClientCall[A]) -> A:
        """The whole answer. Raises LunarError."""
        responses = Responses(call, self._remember_route)
        with attribute_calls(self._callbacks, self._tags):
            answer = call.resource(self._clients.sync).create(**call.params)
        return responses.whole(answer)

    async def aanswer(self, call: ClientCall[A]) -> A:
        """The same for asyncio."""
        responses = Responses(call, self._remember_route)
        with attribute_calls(self._callbacks, self._tags):
            answer = await call.resource(self._clients.asynchronous).create(**call.params)
        return responses.whole(answer)

    def stream(self, call: ClientCall[A]) -> Generator[A, None, None]:
        """The answer as it comes. The request is sent at once, not at the first read. Raises LunarError."""
        responses = Responses(call, self._remember_route)
        with attribute_calls(self._callbacks, self._tags):
            create = call.resource(self._clients.sync).create
            stream = close_at_end(create(stream=True, **call.params))

        def read() -> Generator[A, None, None]:
            for chunk in stream.plain_chunks():
                yield from responses.feed(chunk)
            yield responses.last(stream)

        return read()

    async def astream(self, call: ClientCall[A]) -> AsyncGenerator[A, None]:
        """The same for asyncio."""
        responses = Responses(call, self._remember_route)
        with attribute_calls(self._callbacks, self._tags):
            create = call.resource(self._clients.asynchronous).create
            stream = close_at_end(await create(stream=True, **call.params))

        async def read() -> AsyncGenerator[A, None]:
            async for chunk in stream.plain_chunks():
                for response in responses.feed(chunk):
                    yield response
            yield responses.last(stream)

        return read()

    def decide(self, params: JSONObject) -> RoutingDecision:
        """The router's decision alone. ``params``: the keywords of ``router.decide()``."""
        with attribute_calls(self._callbacks, self._tags):
            return self._clients.sync.router.decide(**params)

    async def adecide(self, params: JSONObject) -> RoutingDecision:
        """The same for asyncio."""
        with attribute_calls(self._callbacks, self._tags):
            return await self._clients.asynchronous.router.decide(**params)
