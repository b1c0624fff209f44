"""An error's text ends the search: which key from where, which URL, which timeout, after how many attempts."""

import inspect
import re

import httpx
import pytest

from lunar_core import (
    APIConnectionError,
    APITimeoutError,
    AsyncLunar,
    AuthenticationError,
    BadRequestError,
    Lunar,
    LunarError,
    NotFoundError,
    RateLimitError,
)
from tests.faults_steps import reply

HELLO = [{"role": "user", "content": "Say hello"}]


@pytest.fixture(params=[Lunar, AsyncLunar], ids=["sync", "async"])
def failure(request, lunar_sandbox):
    """The error of one call: `(client's settings, model, keywords)`."""

    async def fail(settings, model="gpt-4o-mini", **keywords):
        settings = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url} | settings
        client = request.param(**settings)
        client._sleep = (lambda _: None) if request.param is Lunar else no_sleep
        with pytest.raises(LunarError) as caught:
            await ask(client, model=model, messages=HELLO, **keywords)
        ending = client.close()
        if inspect.isawaitable(ending):
            await ending
        return caught.value

    return fail


async def ask(client, **keywords):
    answer = client.chat.completions.create(**keywords)
    if inspect.isawaitable(answer):
        await answer


async def no_sleep(_seconds):
    pass


async def test_a_wrong_key_is_told_by_its_kind_and_source_and_no_more(failure, monkeypatch):
    error = await failure({"api_key": "sk-abcdefghijkl"})
    assert isinstance(error, AuthenticationError)
    assert "sent: an API key, given as api_key=" in str(error)
    assert "Lunar's begin with pk_, this one does not" in str(error)
    assert "sk-" not in str(error)
    error = await failure({"api_key": lambda: "pk_live_unknown"}, "gpt-4o-mini!401")
    assert str(error).endswith(
        "(sent: an API key, returned by the function given as api_key=; Lunar's begin with pk_)"
    )
    monkeypatch.setenv("LUNAR_JWT", "no-such-token")
    error = await failure({"api_key": None})
    assert "sent: a token, of the environment, LUNAR_JWT" in str(error)
    assert "no-such" not in str(error)


async def test_what_is_not_found_names_the_url_that_was_asked(failure, lunar_sandbox):
    error = await failure({"base_url": f"{lunar_sandbox.url}/nowhere"})
    assert isinstance(error, NotFoundError)
    assert f"asked: POST {lunar_sandbox.url}/nowhere/v1/chat/completions" in str(error)


@pytest.mark.parametrize("name", ["available_models", "available_profiles", "models"])
async def test_the_nearest_names_of_the_services_own_list_are_told(failure, fault_server, name):
    names = ["gpt-4o", "gpt-4o-mini", "mistral-small-latest"]
    fault_server.always(reply(400, json={"detail": {"error": "no such model", name: names}}))
    error = await failure({"base_url": fault_server.origin}, "gpt-4o-mni")
    assert isinstance(error, BadRequestError)
    assert re.search(r"did you mean gpt-4o-mini, gpt-4o\?", str(error))
    error = await failure({"base_url": fault_server.origin}, "llama")
    assert "did you mean" not in str(error)


async def test_without_such_a_list_a_misspelt_models_name_is_compared_with_the_references(failure):
    error = await failure({}, "gpt-4o-mni")
    assert isinstance(error, NotFoundError)
    assert "did you mean gpt-4o-mini, gpt-4o?" in str(error)
    assert "did you mean" not in str(await failure({}, "house-model"))


async def test_but_not_where_something_else_was_not_found(failure, lunar_sandbox):
    error = await failure({"base_url": f"{lunar_sandbox.url}/nowhere"}, "gpt-4o-2024-11-20")
    assert isinstance(error, NotFoundError)
    assert "did you mean" not in str(error)


async def test_a_timeout_says_which_one_and_after_how_many_attempts(failure):
    error = await failure({"timeout": (1, 0.1), "max_retries": 1}, "gpt-4o-mini!hang")
    assert isinstance(error, APITimeoutError)
    assert "timeout.read is 0.1 s" in str(error)
    assert str(error).endswith("(after 2 attempts)")
    error = await failure({"total_timeout": 0.2}, "gpt-4o-mini!hang")
    assert "(total_timeout ran out, 0.2 s)" in str(error)


async def test_a_proxy_that_wants_credentials_is_told_from_a_service_that_does(
    failure, fault_server, monkeypatch
):
    monkeypatch.setenv("http_proxy", fault_server.origin)
    fault_server.always(reply(407, "Who are you?"))
    error = await failure({"base_url": "http://lunar.test", "allow_http": True})
    assert str(error) == (
        "407: Who are you? (a proxy on the way wants credentials: give them in its URL)"
    )


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_proxy_where_nobody_listens_is_named_as_one(failure, kind, monkeypatch):
    monkeypatch.setenv("all_proxy", f"{kind}://127.0.0.1:9")
    error = await failure({"base_url": "https://lunar.test", "max_retries": 0})
    assert "no connection to the proxy 127.0.0.1:9: " in str(error)
    assert "(asked: lunar.test)" in str(error)
    assert "sandbox" not in str(error)


async def test_a_rate_limit_says_how_often_was_asked_how_long_to_wait_and_what_to_name(failure):
    error = await failure({"max_retries": 1}, "gpt-4o-mini!429=100")
    assert isinstance(error, RateLimitError)
    assert str(error).endswith(
        f"(after 1 attempt; retry_after 100 s; request id {error.request_id})"
    )


async def test_nobody_on_loopback_asks_for_the_sandbox(failure):
    error = await failure({"base_url": "http://127.0.0.1:9", "max_retries": 1})
    assert isinstance(error, APIConnectionError)
    assert "is the sandbox running? python -m lunar_core.sandbox" in str(error)


def test_what_stands_around_the_client_is_named_with_its_cause_first():
    def fail(_request):
        raise RuntimeError("Network is disabled")

    client = httpx.Client(event_hooks={"request": [fail]})
    with pytest.raises(
        LunarError, match=r"^RuntimeError: Network is disabled: raised by what stands"
    ):
        Lunar("pk_test_1234", base_url="http://127.0.0.1:9", http_client=client).models.list()
