"""A sync and an async client with the same settings, for classes that offer both: the frameworks' models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lunar_core.client.notices import CostNotice
from lunar_core.observers import Observer, checked_observers
from lunar_core.settings import Settings

if TYPE_CHECKING:
    from lunar_core.client.aio import AsyncLunar
    from lunar_core.client.sync import Lunar

C = TypeVar("C", "Lunar", "AsyncLunar")


class ClientPair:
    """Two clients, each made at its first use. Copies and pickles carry the settings and observers, no connections.

    ``http_client`` and ``async_http_client``: the caller's own clients of httpx or httpx2, which ``close()`` leaves
    open. Both clients may be shared by any number of threads, tasks and event loops.

    >>> clients = ClientPair(Settings.resolve(api_key="pk_..."))
    >>> clients.sync is clients.sync
    True
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
        self._http_client = http_client
        self._async_http_client = async_http_client
        self._clients: dict[str, Any] = {}
        self._cost_notice = CostNotice()  # shared, so that the user of both is warned once

    @property
    def sync(self) -> Lunar:
        """The client of sync calls."""
        client: Lunar | None = self._clients.get("sync")
        if client is None:
            from lunar_core.client.sync import Lunar

            # setdefault: of two threads that come first, both get the same client.
            client = self._clients.setdefault("sync", self._make(Lunar, self._http_client))
        return client

    @property
    def asynchronous(self) -> AsyncLunar:
        """The client of async calls."""
        client: AsyncLunar | None = self._clients.get("async")
        if client is None:
            from lunar_core.client.aio import AsyncLunar

            new = self._make(AsyncLunar, self._async_http_client)
            client = self._clients.setdefault("async", new)
        return client

    def with_settings(self, settings: Settings) -> ClientPair:
        """A new pair with other settings. The caller's own HTTP clients stay in use."""
        twin = ClientPair(settings, self.observers, self._http_client, self._async_http_client)
        twin._cost_notice = self._cost_notice
        return twin

    def close(self) -> None:
        """Close the connections of sync calls. Later ones are refused."""
        if "sync" in self._clients:
            self._clients["sync"].close()

    async def aclose(self) -> None:
        """Close the connections of async calls. Later ones are refused."""
        if "async" in self._clients:
            await self._clients["async"].aclose()

    def _make(self, kind: type[C], http_client: Any) -> C:
        observers = checked_observers(self.observers)
        return kind._from_settings(self.settings, observers, http_client, self._cost_notice)

    def __getstate__(self) -> dict[str, object]:
        return {"settings": self.settings, "observers": self.observers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ClientPair.__init__(self, state["settings"], state["observers"])

    def __deepcopy__(self, memo: dict[int, object]) -> ClientPair:
        return self.with_settings(self.settings)
