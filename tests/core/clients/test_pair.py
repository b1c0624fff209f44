"""A sync and an async client of the same settings, as both frameworks' models hold them."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lunar_core import Ledger, LunarError
from lunar_core.client.pair import ClientPair
from lunar_core.settings import Settings

HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def settings(lunar_sandbox):
    return Settings.resolve(api_key=lunar_sandbox.api_key, base_url=lunar_sandbox.url)


async def test_both_clients_use_the_settings_and_tell_the_observers(settings, lunar_sandbox):
    ledger = Ledger()
    clients = ClientPair(settings, [ledger])
    clients.sync.chat.completions.create(**HELLO)
    await clients.asynchronous.chat.completions.create(**HELLO)
    assert ledger.total.calls == 2
    assert len(lunar_sandbox.requests()) == 2
    clients.close()
    await clients.aclose()


def test_threads_that_come_first_get_the_same_client(settings):
    clients = ClientPair(settings)
    with ThreadPoolExecutor(8) as threads:
        made = set(threads.map(lambda _: id(clients.sync), range(64)))
    assert len(made) == 1


def test_closing_what_was_never_used_makes_nothing(settings):
    clients = ClientPair(settings)
    clients.close()
    assert clients._clients == {}


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_and_pickles_carry_settings_and_open_connections_of_their_own(settings, twin_of):
    clients = ClientPair(settings)
    clients.sync.chat.completions.create(**HELLO)
    twin = twin_of(clients)
    clients.close()
    assert twin.sync.chat.completions.create(**HELLO).choices
    with pytest.raises(LunarError):
        clients.sync.chat.completions.create(**HELLO)
    twin.close()


def test_other_settings_mean_other_clients_and_the_same_http_client(settings):
    paths = []

    def answer(request):
        paths.append(str(request.url))
        return httpx.Response(200, json={"choices": [{"message": {"content": "hi"}}]})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http_client:
        clients = ClientPair(settings, http_client=http_client)
        other = Settings.resolve(api_key="pk_test_other", base_url="https://other.example")
        clients.with_settings(other).sync.chat.completions.create(**HELLO)
    assert paths == ["https://other.example/v1/chat/completions"]
