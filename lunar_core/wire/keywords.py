"""The keywords that requests may have, and the one that a misspelt keyword meant. One table for all packages."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache

from lunar_core.errors import ConfigurationError
from lunar_core.wire.params import ChatParams, CompletionParams, RouterParams

KEYWORDS = frozenset({"model", "messages", "prompt", "stream", "execute"}).union(
    *(params.__optional_keys__ for params in (ChatParams, CompletionParams, RouterParams))
)
"""The keywords of ``create()``, for all endpoints."""

OF_PROVIDERS = frozenset(
    {
        *("audio", "best_of", "echo", "function_call", "functions", "guided_json", "ignore_eos"),
        *("max_completion_tokens", "max_output_tokens", "metadata", "min_p", "min_tokens"),
        *("modalities", "prediction", "prompt_cache_key", "reasoning", "repetition_penalty"),
        *("route", "safe_prompt", "safety_identifier", "service_tier", "stop_sequences"),
        *("stop_token_ids", "store", "suffix", "thinking", "tool_config", "top_a", "top_k"),
        *("transforms", "verbosity", "web_search_options"),
    }
)
"""Fields of providers, sent as they are. They look like misspelt keywords, but are not."""

OF_CLIENTS = frozenset(
    {
        *("allow_http", "api_key", "async_http_client", "base_url", "default_headers"),
        *("http_async_client", "http_client", "jwt", "max_connections", "observers"),
    }
)
"""Settings of clients and models. In a request they would reach the provider, the key among them."""


_QUERIES = frozenset({"default_query", "extra_query"})
"""Options of OpenAI's client for queries in URLs, which Lunar's have not."""


def check_no_settings(names: Iterable[str], place: str = "") -> None:
    """Raise ConfigurationError for a name that is an option of a client, and no field. The error shows no value.

    ``place``: where the names stand, such as ``extra_body``.
    """
    where = f"{place}: " if place else ""
    for name in names:
        if name in OF_CLIENTS:
            raise ConfigurationError(f"{where}{name}: a setting of the client, not of a call")
        if name in _QUERIES:
            raise ConfigurationError(f"{where}{name}: Lunar's URLs have no query")


@lru_cache(maxsize=256)
def find_nearest(name: str) -> str | None:
    """The known keyword that ``name`` almost is. None if ``name`` is known itself, or near none.

    >>> find_nearest("temprature"), find_nearest("top_k"), find_nearest("x_of_tomorrow")
    ('temperature', None, None)
    """
    if name in KEYWORDS or name in OF_PROVIDERS:
        return None
    return next(iter(get_close_matches(name, sorted(KEYWORDS), n=1, cutoff=0.8)), None)
