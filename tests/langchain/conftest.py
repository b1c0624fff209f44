"""What the tests of langchain_lunar share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from langchain_tests.conftest import CustomPersister, CustomSerializer, base_vcr_config

from langchain_lunar import ChatLunar
from tests.faults import FaultServer


@pytest.fixture
def chat(lunar_sandbox):
    """Make a ChatLunar of the sandbox: ``chat("router", temperature=0)``."""

    def make(model="gpt-4o-mini", **settings):
        given = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
        return ChatLunar(model=model, **{**given, **settings})

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
