"""An LLM on the sandbox, in both of its dialects, and a record of what LlamaIndex is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import Settings
from llama_index_instrumentation import get_dispatcher

from llama_index_lunar import LunarLLM
from tests.faults import FaultServer
from tests.llama_index.support import BagOfWords, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lunar_core.sandbox.handle import Sandbox


@pytest.fixture(params=["documented", "observed"])
def dialect(request) -> str:
    return request.param


@pytest.fixture
def either_sandbox(dialect, lunar_sandbox_factory) -> Iterator[Sandbox]:
    """The sandbox, once in each dialect."""
    sandbox = lunar_sandbox_factory(dialect=dialect)
    yield sandbox
    sandbox.reset()


@pytest.fixture
def llm_on() -> Iterator[Callable[..., LunarLLM]]:
    """Make LLMs that talk to a server; they are closed in the end."""
    llms: list[LunarLLM] = []

    def make(server: Any, **options: Any) -> LunarLLM:
        url = getattr(server, "url", None) or server.origin
        key = getattr(server, "api_key", "pk_test_faults")
        arguments = {"model": "gpt-4o-mini", "api_key": key, "api_base": url, **options}
        llms.append(LunarLLM(**arguments))
        return llms[-1]

    yield make
    for llm in llms:
        llm.close()


@pytest.fixture
def llm(llm_on, lunar_sandbox) -> LunarLLM:
    return llm_on(lunar_sandbox)


@pytest.fixture
def router(llm_on, lunar_sandbox) -> LunarLLM:
    return llm_on(lunar_sandbox, model="router")


@pytest.fixture
def faults() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Everything that LlamaIndex's dispatcher tells from here on."""
    handler = Recorder()
    handlers = get_dispatcher().event_handlers
    handlers.append(handler)
    yield handler
    handlers.remove(handler)


@pytest.fixture(autouse=True)
def settings_of_this_test() -> Iterator[None]:
    """LlamaIndex's global Settings, with an embedding that needs no network, and clean again afterwards."""
    Settings.embed_model = BagOfWords()
    yield
    Settings._llm = None
    Settings._embed_model = None
    Settings._callback_manager = None
