"""What the tests of langchain_lunar share."""

from __future__ import annotations

import asyncio
import gc
import re
from pathlib import Path

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_tests.conftest import CustomPersister, CustomSerializer, base_vcr_config

from langchain_lunar import ChatLunar, LunarRouterChain
from tests.faults import FaultServer


@pytest.fixture
def no_collector():
    """No collection of garbage while a test runs: what is left then is a cycle's."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def chat(lunar_sandbox):
    """Make a ChatLunar of the sandbox: ``chat("router", temperature=0)``."""

    def make(model="gpt-4o-mini", **settings):
        given = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
        return ChatLunar(model=model, **{**given, **settings})

    return make


@pytest.fixture
def chain(lunar_sandbox):
    """Make a LunarRouterChain of the sandbox: ``chain(models=PAIR)``."""

    def make(**settings):
        given = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
        return LunarRouterChain(**{**given, **settings})

    return make


@pytest.fixture
def fault_server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def scripted(fault_server):
    """Make a ChatLunar of the server that answers as a test scripts it."""

    def make(model="gpt-4o-mini", **settings):
        given = {"api_key": "pk_live_test", "base_url": fault_server.origin, "max_retries": 0}
        return ChatLunar(model=model, **{**given, **settings})

    return make


class Sync:
    """How a model is used in sync code."""

    def invoke(self, model, /, *args, **kwargs):
        return model.invoke(*args, **kwargs)

    def batch(self, model, /, *args, **kwargs):
        return model.batch(*args, **kwargs)

    def generate(self, model, /, *args, **kwargs):
        return model.generate(*args, **kwargs)

    def stream(self, model, /, *args, into=None, **kwargs):
        """All chunks; those before a failure are in ``into``."""
        chunks = [] if into is None else into
        for chunk in model.stream(*args, **kwargs):
            chunks.append(chunk)  # they must be there when the next one fails
        return chunks

    def streamed(self, model, /, *args, **kwargs):
        """The message that a stream amounts to."""
        first, *rest = self.stream(model, *args, **kwargs)
        return first.__add__(rest)


class Async(Sync):
    """The same in async code, each call on an event loop of its own."""

    def invoke(self, model, /, *args, **kwargs):
        return asyncio.run(model.ainvoke(*args, **kwargs))

    def batch(self, model, /, *args, **kwargs):
        return asyncio.run(model.abatch(*args, **kwargs))

    def generate(self, model, /, *args, **kwargs):
        return asyncio.run(model.agenerate(*args, **kwargs))

    def stream(self, model, /, *args, into=None, **kwargs):
        chunks = [] if into is None else into

        async def read():
            async for chunk in model.astream(*args, **kwargs):
                chunks.append(chunk)

        asyncio.run(read())
        return chunks


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def way(request):
    """Whatever is promised holds in sync and in async code: a test that asks for this runs twice."""
    return request.param()


class Told(BaseCallbackHandler):
    """Keeps what callbacks are told."""

    run_inline = True

    def __init__(self):
        self.started, self.tokens, self.ended, self.failed = [], [], [], []

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.started.append({"serialized": serialized, **kwargs})

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.tokens.append((token, chunk))

    def on_llm_end(self, response, **kwargs):
        self.ended.append(response)

    def on_llm_error(self, error, *, response=None, **kwargs):
        self.failed.append((error, response))


@pytest.fixture
def told():
    return Told()


class Heard(BaseCallbackHandler):
    """Keeps what the callbacks of a router chain's run are told, in order."""

    run_inline = True

    def __init__(self):
        self.events, self.custom, self.outputs, self.results = [], [], [], []

    def on_chain_start(self, serialized, inputs, *, metadata=None, **kwargs):
        self.events.append("chain_start")
        self.metadata = metadata

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.events.append("model_start")

    def on_llm_end(self, response, **kwargs):
        self.events.append("model_end")
        self.results.append(response)

    def on_custom_event(self, name, data, **kwargs):
        self.events.append(name)
        self.custom.append(data)

    def on_chain_end(self, outputs, **kwargs):
        self.events.append("chain_end")
        self.outputs.append(outputs)


@pytest.fixture
def heard():
    return Heard()


# The benchmark of the standard suite plays a stream that was recorded from the sandbox.


@pytest.fixture(scope="module")
def vcr_config():
    own = {
        "before_record_request": of_any_sandbox,
        "cassette_library_dir": str(Path(__file__).parents[1] / "cassettes"),
        "path_transformer": lambda path: f"{path.removesuffix('.yaml')}.yaml.gz",
        "serializer": "yaml.gz",
    }
    return base_vcr_config() | own


def of_any_sandbox(request):
    """The request without the port and session of its sandbox; None for one that is the test's own."""
    path = re.sub(r"^/session/\d+", "", request.path)
    if path.startswith("/sandbox/"):
        return None
    request.uri = f"http://sandbox{path}"
    kept = {"content-type", "x-api-key"}
    request.headers = {name: value for name, value in request.headers.items() if name in kept}
    return request


def pytest_recording_configure(config, vcr):
    vcr.register_persister(CustomPersister())
    vcr.register_serializer("yaml.gz", CustomSerializer())
