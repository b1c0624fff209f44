"""Both clients, on both dialects of the sandbox: one suite says what all four combinations do.

`connect` (tests/core/conftest.py) runs each test with Lunar and with AsyncLunar.
"""

import pytest

from lunar_core import Ledger
from tests.core.watching import Watching

HELLO = [{"role": "user", "content": "Say hello to all four of us"}]

# Every way to ask for words: as (how to ask, the path that is asked last).
WAYS = {
    "chat": (
        lambda client, **more: client.chat.completions.create(
            **{"model": "gpt-4o-mini", "messages": HELLO} | more
        ),
        "/v1/chat/completions",
    ),
    "text": (
        lambda client, **more: client.completions.create(
            **{"model": "gpt-4o-mini", "prompt": HELLO[0]["content"]} | more
        ),
        "/v1/completions",
    ),
    "router": (
        lambda client, **more: client.router.create(**{"messages": HELLO} | more),
        "/v1/router",
    ),
    "model=router": (
        lambda client, **more: client.chat.completions.create(
            **{"model": "router", "messages": HELLO} | more
        ),
        "/v1/router",
    ),
    "decide, then call": (
        lambda client, **more: client.chat.completions.create(
            **{"model": "router", "messages": HELLO, "stop": ["END"]} | more
        ),
        "/v1/chat/completions",
    ),
}


@pytest.fixture(params=["documented", "observed"])
def sandbox(request, lunar_sandbox_factory):
    """A session of a sandbox, its log empty."""
    options = {} if request.param == "documented" else {"dialect": request.param}
    session = lunar_sandbox_factory(**options)
    yield session
    if session.process.poll() is None:
        session.reset()


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def watching():
    return Watching()


@pytest.fixture
def client(connect, sandbox, ledger, watching):
    """A client of the sandbox that tries once, watched."""
    return connect(sandbox.url, api_key=sandbox.api_key, observers=[ledger, watching])


class Way:
    """One way to ask for words: plain, or streamed."""

    def __init__(self, name):
        self.name = name
        self._ask, self.path = WAYS[name]

    def plain(self, client, **more):
        return self._ask(client, **more)

    def stream(self, client, **more):
        return self._ask(client, stream=True, **more)


@pytest.fixture(params=WAYS)
def ask(request):
    return Way(request.param)


@pytest.fixture
def words():
    """The text of an answer or of a chunk, whatever its kind."""

    def read(answer):
        choice = answer.choices[0]
        said = getattr(choice, "message", None) or getattr(choice, "delta", None)
        return choice.text if hasattr(choice, "text") else said.content or ""

    return read
