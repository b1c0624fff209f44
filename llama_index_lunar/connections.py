"""The clients behind an LLM: made at first use, and never part of a copy or a pickle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from llama_index_lunar.reporting import Reporter
from llama_index_lunar.routes import Routes
from lunar_core.observers import Observer
from lunar_core.settings import Settings

if TYPE_CHECKING:
    from lunar_core import AsyncLunar, Lunar

JSONObject = dict[str, Any]

C = TypeVar("C")


class Connections:
    """What an LLM makes its calls with. Copies share settings and observers, and open connections of their own.

    Both clients may be shared by any number of threads, tasks and event loops. ``observers`` are the caller's;
    they are asked before the one that reports to LlamaIndex, so that a call they refuse is not reported.
    """

    def __init__(
        self,
        settings: Settings,
        observers: Sequence[Observer] = (),
        http_client: Any = None,  # httpx's or httpx2's: no type names both
        async_http_client: Any = None,
    ) -> None:
        self.settings = settings
        self.observers = tuple(observers)
        self.routes = Routes()
        self.reporter = Reporter()
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._clients: dict[str, Any] = {}

    def with_settings(self, settings: Settings) -> Connections:
        """The same for other settings. The caller's own http clients stay in use."""
        return Connections(settings, self.observers, self._http_client, self._async_http_client)

    @property
    def sync(self) -> Lunar:
        from lunar_core import Lunar

        # setdefault: of two threads that come first, both get the same client.
        made = self._clients.get("sync") or self._clients.setdefault(
            "sync", self._client(Lunar, self._http_client)
        )
        client: Lunar = made
        return client

    @property
    def asynchronous(self) -> AsyncLunar:
        from lunar_core import AsyncLunar

        made = self._clients.get("async") or self._clients.setdefault(
            "async", self._client(AsyncLunar, self._async_http_client)
        )
        client: AsyncLunar = made
        return client

    def close(self) -> None:
        if "sync" in self._clients:
            self._clients["sync"].close()

    async def aclose(self) -> None:
        if "async" in self._clients:
            await self._clients["async"].aclose()

    def _client(self, kind: Callable[..., C], http_client: Any) -> C:
        told, credential = self.settings, self.settings.credential
        options: JSONObject = {
            credential.kind: credential.source or credential.from_environment,
            "base_url": told.base_url,
            "timeout": told.timeout,
            "max_retries": told.max_retries,
            "total_timeout": told.total_timeout,
            "max_connections": told.max_connections,
            "fallbacks": told.fallbacks,
            "default_headers": told.default_headers,
            "limits": told.limits,
            "allow_http": True,  # as far as it may: the address has been checked
        }
        return kind(**options, http_client=http_client, observers=(*self.observers, self.reporter))

    def __getstate__(self) -> JSONObject:
        return {"settings": self.settings, "observers": self.observers}

    def __setstate__(self, state: JSONObject) -> None:
        Connections.__init__(self, state["settings"], state["observers"])

    def __deepcopy__(self, memo: JSONObject) -> Connections:
        return self.with_settings(self.settings)
