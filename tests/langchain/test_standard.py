"""LangChain's own suites of tests, for a model that is named and for the routed one.

They run on the sandbox with every switch on that the API's contract allows. Off stay, because the contract says
nothing of them: counts of audio tokens and of tokens written to a cache (test_messages has those). The suites fetch
a picture, a sound and a document from the web; here they get files of a few bytes instead.
"""

from __future__ import annotations

import types

import httpx
import pytest
from langchain_core.messages import HumanMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.integration_tests import chat_models as suite
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_lunar import ChatLunar

PNG = b"\x89PNG\r\n\x1a\n"
PDF = b"%PDF-1.4\n%%EOF\n"
WAV = b"RIFF\x00\x00\x00\x00WAVE"


def download(url, **_):
    kind = {"png": PNG, "pdf": PDF, "wav": WAV}.get(url.rpartition(".")[2], PNG)
    return httpx.Response(200, content=kind, request=httpx.Request("GET", url))


class Unit(ChatModelUnitTests):
    """The tests that need no server."""

    @property
    def chat_model_class(self):
        return ChatLunar

    @property
    def init_from_env_params(self):
        environment = {"LUNAR_API_KEY": "pk_env", "LUNAR_BASE_URL": "https://lunar.example"}
        expected = {"api_key": "pk_env", "base_url": "https://lunar.example"}
        return environment, {"model": self.chat_model_params["model"]}, expected


class TestUnitNamed(Unit):
    @property
    def chat_model_params(self):
        return {"model": "gpt-4o-mini", "api_key": "pk_test", "base_url": "https://lunar.example"}


class TestUnitRouted(Unit):
    @property
    def chat_model_params(self):
        return {
            "model": "router",
            "models": ["gpt-4o", "gpt-4o-mini"],
            "cost_weight": 0.5,
            "api_key": "pk_test",
            "base_url": "https://lunar.example",
        }


class Integration(ChatModelIntegrationTests):
    """The tests that talk to a server: the sandbox."""

    reasoning_model = "o4-mini"

    @pytest.fixture(autouse=True)
    def on_the_sandbox(self, lunar_sandbox, monkeypatch):
        self.sandbox = lunar_sandbox
        self.http_client = None
        monkeypatch.setattr(suite, "httpx", types.SimpleNamespace(get=download))
        monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none: nothing is fetched")

    @pytest.fixture(autouse=True)
    def where_a_recorder_listens(self, request, on_the_sandbox):
        """Recorders of HTTP sit in httpx's own transport."""
        if "vcr" in request.fixturenames:
            with httpx.Client() as self.http_client:
                yield
        else:
            yield

    @property
    def chat_model_class(self):
        return ChatLunar

    @property
    def chat_model_params(self):
        return {
            "model": self.name,
            "api_key": self.sandbox.api_key,
            "base_url": self.sandbox.url,
            "http_client": self.http_client,
        }

    @property
    def model_override_value(self):
        return "gpt-4o"

    supports_json_mode = True
    supports_image_inputs = True
    supports_image_urls = True
    supports_pdf_inputs = True
    supports_audio_inputs = True
    supports_image_tool_message = True
    supports_pdf_tool_message = True
    supports_anthropic_inputs = True
    enable_vcr_tests = True

    @property
    def supported_usage_metadata_details(self):
        details = ["reasoning_output", "cache_read_input"]
        return {"invoke": details, "stream": details}

    def _ask(self, prompt, *, stream, **settings):
        model = ChatLunar(**self.chat_model_params | settings)
        if not stream:
            return model.invoke(prompt)
        first, *rest = model.stream(prompt)
        return first.__add__(rest)

    def invoke_with_reasoning_output(self, *, stream=False):
        return self._ask("Why is the sky blue?", stream=stream, model=self.reasoning_model)

    def invoke_with_cache_read_input(self, *, stream=False):
        text = "Say hello to each of these: " + "a name, " * 1_500
        marked = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
        self._ask([HumanMessage([marked])], stream=False, max_tokens=5)
        return self._ask([HumanMessage([marked])], stream=stream, max_tokens=5)


class TestIntegrationNamed(Integration):
    name = "gpt-4o-mini"


class TestIntegrationRouted(Integration):
    name = "router"
