"""Tags for web applications: the calls of each web request get the request's tags. For any ASGI framework."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from lunar_core import observers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class TagsMiddleware:
    """Runs every request, until the last byte of its response, in a block of ``lunar_core.tags``.

    A block inside a handler would end before a StreamingResponse begins, so that calls made while it streams would have
    no tags. ``tags``: a function that takes the ASGI scope and returns the tags of the request.

    >>> def tags_of(scope):
    ...     return {"path": scope["path"]}
    >>> app = TagsMiddleware(app, tags=tags_of)  # doctest: +SKIP
    >>> app.add_middleware(TagsMiddleware, tags=tags_of)  # Starlette and FastAPI  # doctest: +SKIP
    """

    def __init__(self, app: App, tags: Callable[[Scope], Mapping[str, str]]) -> None:
        self.app = app
        self.tags = tags

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        with observers.tags(**self.tags(scope)):
            await self.app(scope, receive, send)
