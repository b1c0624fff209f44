"""A client with other settings shares the connections, checks what it is given, and closes nothing."""

import inspect

import pytest

from lunar_core import (
    APITimeoutError,
    AsyncLunar,
    ConfigurationError,
    InternalServerError,
    Ledger,
    Limits,
    Lunar,
    LunarError,
    ResponseTooLargeError,
)
from tests.faults_steps import hang, reply

HELLO = [{"role": "user", "content": "Say hello"}]
CLIENTS = [Lunar, AsyncLunar]


@pytest.fixture
def settings(lunar_sandbox):
    return {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}


async def ask(client, model="gpt-4o-mini"):
    answer = client.chat.completions.create(model=model, messages=HELLO)
    return await answer if inspect.isawaitable(answer) else answer


async def close(client):
    ending = client.close()
    if inspect.isawaitable(ending):
        await ending


ANSWER = {
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}],
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_it_asks_over_the_same_connection_and_closing_it_leaves_that_open(kind, fault_server):
    fault_server.always(reply(json=ANSWER))
    client = kind("pk_test_1234", base_url=fault_server.origin, max_retries=0)
    await ask(client)
    other = client.with_options(timeout=9)
    await ask(other)
    await close(other)
    await ask(client)
    assert (fault_server.total, len(fault_server.requests)) == (1, 3)
    await close(client)
    with pytest.raises(LunarError, match="closed"):
        await ask(other)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_its_settings_are_its_own(kind, settings):
    client = kind(**settings)
    other = client.with_options(fallbacks=["gpt-4o"])
    assert (await ask(other, "gpt-4o-mini!503")).model.startswith("gpt-4o")
    with pytest.raises(InternalServerError):
        await ask(client, "gpt-4o-mini!503")
    await close(client)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_observers_key_and_headers_may_be_others(kind, settings, lunar_sandbox):
    first, second = Ledger(), Ledger()
    client = kind(**settings, observers=[first])
    other = client.with_options(
        observers=[second], api_key="pk_test_other", default_headers={"x-team": "a"}
    )
    await ask(other)
    await ask(client.with_options(timeout=5))
    assert (len(first), len(second)) == (1, 1)
    assert lunar_sandbox.requests()[0]["headers"]["x-team"] == "a"
    assert "pk_test_other" not in repr(vars(other))
    await close(client)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_so_may_the_whole_time_the_bounds_and_the_tags(kind, fault_server):
    fault_server.script(hang, reply(json=ANSWER), reply(json=ANSWER))
    ledger = Ledger()
    client = kind("pk_test_1234", base_url=fault_server.origin, max_retries=0, observers=[ledger])
    with pytest.raises(APITimeoutError, match=r"total_timeout ran out, 0\.1 s"):
        await ask(client.with_options(total_timeout=0.1))
    with pytest.raises(ResponseTooLargeError, match="20 bytes"):
        await ask(client.with_options(limits=Limits(body=20)))
    await ask(client.with_options(tags={"team": "search"}))
    assert [entry.tags for entry in ledger] == [{}, {}, {"team": "search"}]
    await close(client)


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("base_url", "https://gateway.example", "belongs to the connections"),
        ("http_client", None, "belongs to the connections"),
        ("max_connections", 5, "belongs to the connections"),
        ("allow_http", True, "belongs to the connections"),
        ("max_retires", 5, r"no setting of a client; perhaps max_retries\?"),
        ("max_retries", -1, "whole number"),
        ("timeout", "soon", "expected seconds"),
        ("total_timeout", 0, "more than 0"),
        ("fallbacks", "gpt-4o", "list of model names"),
        ("default_headers", {"x-api-key": "pk"}, "set by the client"),
        ("limits", 5, "expected lunar_core.Limits"),
        ("tags", "search", "expected a dict"),
        ("observers", [7], "before"),
        ("api_key", "", "empty"),
    ],
)
def test_what_cannot_be_given_is_refused_by_name(kind, name, value, why, settings):
    with pytest.raises(ConfigurationError, match=rf"^{name}: .*{why}"):
        kind(**settings).with_options(**{name: value})


async def test_an_async_client_and_stream_close_by_either_name(settings):
    client = AsyncLunar(**settings)
    stream = await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
    await stream.close()
    await client.close()
    with pytest.raises(LunarError, match="closed"):
        await ask(client)
