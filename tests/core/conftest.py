"""What the core's tests share: the fault server, and each client driven by one and the same test.

A test that asks for `connect` runs twice, with Lunar and with AsyncLunar; one that asks for `way`
runs twice, with a plain and with a streamed call. So a promise is written down once.
"""

import asyncio
import contextlib
import inspect
import json
import subprocess
import sys
import textwrap
import time

import anyio._backends._asyncio  # noqa: F401  # else loaded by the first async call, in the time that a test gives it
import httpx
import pytest

import lunar_core
from lunar_core.client import attempts, responses
from tests.faults import FaultServer
from tests.faults_steps import completion, reply, spoken, sse

KEY = "pk_live_4e0b7a2c91d8"
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture
def fault_server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def key():
    return KEY


@pytest.fixture
def run_apart():
    """Run a program in its own process, warnings being errors: what it printed, as JSON."""

    def run(program, *args):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *args],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return run


@pytest.fixture
def waits(monkeypatch):
    """The backoff that was reckoned for each retry, in seconds; in truth nobody waits."""
    reckoned, backoff = [], attempts.backoff

    def at_once(retry, jitter):
        reckoned.append(backoff(retry, jitter))
        return 0.0

    monkeypatch.setattr(attempts, "backoff", at_once)
    return reckoned


@pytest.fixture
def unhurried(monkeypatch):
    """A stream waits for the end of its body as long as that takes, so that a busy machine ends no connection."""
    monkeypatch.setattr(responses, "DRAIN_SECONDS", 10)


@pytest.fixture(
    params=[{"lunar_core", "httpx"}, {"lunar_core", "httpcore", "httpx"}],
    ids=["our own transport", "httpx's"],
)
def loggers(request):
    """Who tells, at DEBUG, of a request that goes this way: httpx, and what is under its own transport."""
    return request.param


class Blocking:
    """An AsyncLunar, or a part or stream of it, used as its synchronous twin is used."""

    def __init__(self, twin, loop):
        self._twin, self._loop = twin, loop

    def __getattr__(self, name):
        return self._seen(getattr(self._twin, "aclose" if name == "close" else name))

    def __iter__(self):
        chunks, end = aiter(self._twin), object()
        while (chunk := self._seen(anext(chunks, end))) is not end:
            yield chunk

    def __next__(self):
        try:
            return self._seen(anext(self._twin))
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self):
        self._seen(self._twin.__aenter__())
        return self

    def __exit__(self, *error):
        return self._seen(self._twin.__aexit__(*error))

    def _seen(self, value):
        if inspect.isawaitable(value):
            value = self._loop.run_until_complete(awaited(value))
        if inspect.isroutine(value):
            return lambda *args, **options: self._seen(value(*args, **options))
        if type(value).__module__.startswith("lunar_core.client"):
            return Blocking(value, self._loop)
        return value


async def awaited(value):
    return await value


def base_url_of(_side, server, options):
    return {"base_url": getattr(server, "origin", server)} | options


class SyncSide:
    """Makes clients of one kind, and closes them when the test is over."""

    kind = lunar_core.Lunar

    def __init__(self, options=None):
        self._closing = contextlib.ExitStack()
        self._options = options or base_url_of

    def __call__(self, server, **options):
        """A client of `server` (or of an origin) that retries nothing unless it is told to."""
        arguments = {"api_key": KEY, "max_retries": 0} | self._options(self, server, options)
        return self.adopt(self.kind(**arguments))

    def adopt(self, client):
        """A client that was made elsewhere, to be used by the test and closed after it."""
        self._closing.callback(client.close)
        return client

    def bare(self, thing):
        """The client or stream itself, without what this adapter puts round it."""
        return thing

    def httpx_client(self, library=httpx, **options):
        return self._closing.enter_context(library.Client(**options))

    def wait_until(self, condition, *, within=1.0):
        """Return once `condition()`; meanwhile whatever the client left running runs on."""
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, f"not within {within} s"
            self.run_on()

    def run_on(self):
        time.sleep(0.002)

    def close(self):
        self._closing.close()


class AsyncSide(SyncSide):
    kind = lunar_core.AsyncLunar

    def __init__(self, options=None):
        super().__init__(options)
        self.loop = self.new_loop()

    def new_loop(self):
        return asyncio.new_event_loop()

    def adopt(self, client):
        self._closing.callback(lambda: self.loop.run_until_complete(client.aclose()))
        return Blocking(client, self.loop)

    def bare(self, thing):
        return thing._twin

    def httpx_client(self, library=httpx, **options):
        client = library.AsyncClient(**options)
        self._closing.callback(lambda: self.loop.run_until_complete(client.aclose()))
        return client

    def run_on(self):
        self.loop.run_until_complete(asyncio.sleep(0.002))

    def close(self):
        try:
            super().close()
            self.run_on()
            assert not asyncio.all_tasks(self.loop)
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


class UvloopSide(AsyncSide):
    def new_loop(self):
        return pytest.importorskip(
            "uvloop", reason="uvloop is not made for Windows"
        ).new_event_loop()


SIDES = {"sync": SyncSide, "async": AsyncSide, "uvloop": UvloopSide}


@pytest.fixture(params=["sync", "async"])
def connect(request):
    side = SIDES[request.param]()
    yield side
    side.close()


class Plain:
    """A chat completion in one piece: how to ask for it, and the documented answer to it."""

    streamed = False

    def ask(self, client, **params):
        """The whole completion."""
        return client.chat.completions.create(**QUESTION | params)

    def answer(self, text="Hello!", **fields):
        return reply(json=completion(text, **fields))


class Streamed:
    """The same, streamed."""

    streamed = True

    def ask(self, client, **params):
        with client.chat.completions.create(**QUESTION | params, stream=True) as stream:
            for _chunk in stream:
                pass
            return stream.get_final_completion()

    def answer(self, text="Hello!", **_fields):
        return sse(*spoken(*text.partition(" ")))


@pytest.fixture(params=[Plain, Streamed], ids=["plain", "streamed"])
def way(request):
    return request.param()
