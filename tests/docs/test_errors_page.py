"""Each message that docs/errors.md explains is really said, by the error that the page names."""

from __future__ import annotations

import re

import pytest

import lunar_core
from lunar_core import Budget, Ledger, Lunar, Transport
from tests.docs.conftest import ROOT

PAGE = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]
CLASSES = {row[0]: row[1] if len(row) == 4 else "ConfigurationError" for row in ROWS}
HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture
def client(lunar_sandbox):
    with Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url, max_retries=0) as client:
        yield client


def ask(client, model="gpt-4o", **keywords):
    return client.chat.completions.create(**{"model": model, "messages": HELLO, **keywords})


def read(client, model):
    with ask(client, model, stream=True) as stream:
        return list(stream)


CAUSES = {
    "api_key: none was given": lambda client, observed: Lunar(),
    "api_key: is empty": lambda client, observed: Lunar(""),
    "api_key: is in quotes": lambda client, observed: Lunar('"pk_x"'),
    "api_key and jwt: give one of the two": lambda client, observed: Lunar("pk_x", jwt="x"),
    "base_url: no http:// or https:// in front": lambda client, observed: Lunar(
        "pk_x", base_url="localhost:8787"
    ),
    "base_url: ends in an endpoint's path": lambda client, observed: Lunar(
        "pk_x", base_url="https://lunar.example/v1/chat/completions"
    ),
    "base_url: plain http would send the key unprotected": lambda client, observed: Lunar(
        "pk_x", base_url="http://lunar.example"
    ),
    "verify: expected an ssl.SSLContext": lambda client, observed: Transport(verify=False),
    "temperature: expected a number": lambda client, observed: ask(client, temperature="hot"),
    "messages: expected a list of at least 1 message": lambda client, observed: ask(
        client, messages=[]
    ),
    "cost_weight: must be 0 or more": lambda client, observed: client.router.decide(
        messages=HELLO, cost_weight=-1
    ),
    "models: a choice needs at least 2 models": lambda client, observed: client.router.decide(
        messages=HELLO, models=["gpt-4o"]
    ),
    "observers: expected a list of objects": lambda client, observed: Lunar(
        "pk_x", observers=Ledger()
    ),
    "401: Authentication required": lambda client, observed: ask(client, "gpt-4o!401"),
    "Lunar's begin with pk_, this one does not": lambda client, observed: ask(
        client.with_options(api_key="sk-123")
    ),
    "takes only an API key here": lambda client, observed: Lunar(
        jwt="x", base_url=observed.url
    ).router.decide(messages=HELLO),
    "404: Not Found (asked:": lambda client, observed: ask(
        Lunar("pk_x", base_url=f"{observed.url}/api")
    ),
    "Model not found": lambda client, observed: ask(client, "gpt-5-nowhere"),
    "did you mean gpt-4o-mini": lambda client, observed: ask(client, "gpt-4o-mnii"),
    "No routing profile for": lambda client, observed: client.router.decide(
        messages=HELLO, models=["gpt-4o", "nowhere"]
    ),
    "429: Rate limit exceeded": lambda client, observed: ask(client, "gpt-4o!429"),
    "This model's maximum context length is": lambda client, observed: ask(
        client, "gpt-4o!502-context"
    ),
    "All providers failed for model": lambda client, observed: ask(client, "gpt-4o!503"),
    "the service was not reached": lambda client, observed: ask(
        Lunar("pk_x", base_url="https://nowhere.invalid", max_retries=0)
    ),
    "nobody listens there; is the sandbox running?": lambda client, observed: ask(
        Lunar("pk_x", base_url="http://127.0.0.1:9", max_retries=0)
    ),
    "timeout.read is": lambda client, observed: ask(client, "gpt-4o!hang", timeout=0.2),
    "total_timeout ran out": lambda client, observed: ask(client, "gpt-4o!hang", total_timeout=0.2),
    "no whole answer from the service": lambda client, observed: ask(client, "gpt-4o!hangup"),
    "the stream ended before its answer did": lambda client, observed: read(
        client, "gpt-4o!cut-mid"
    ),
    "this call may take": lambda client, observed: ask(
        client.with_options(observers=[Budget(calls=0, warn_at=None)])
    ),
    "is not there": lambda client, observed: Ledger.open("/nowhere/costs.db", read_only=True),
    "the service stated no cost for a stream": lambda client, observed: read(
        Lunar(observed.api_key, base_url=observed.url), "gpt-4o"
    ),
}
"""What makes each of them, by its words; called with a client and a sandbox of the other dialect."""


def test_each_message_of_the_page_has_its_cause_here():
    assert list(CLASSES) == list(CAUSES)


@pytest.mark.parametrize("words", CAUSES)
def test_the_words_are_said_by_the_class_that_the_page_names(
    words, client, lunar_sandbox_factory, monkeypatch
):
    for name in ("LUNAR_API_KEY", "LUNAR_JWT"):
        monkeypatch.delenv(name, raising=False)
    observed = lunar_sandbox_factory(dialect="observed")
    expected = getattr(lunar_core, CLASSES[words])
    if issubclass(expected, Warning):
        with pytest.warns(expected, match=re.escape(words)):
            CAUSES[words](client, observed)
        return
    with pytest.raises(expected, match=re.escape(words)) as caught:
        CAUSES[words](client, observed)
    assert type(caught.value) is expected
