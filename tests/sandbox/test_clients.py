"""Clients that aren't ours work on the sandbox, as the reference's examples use them."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.sandbox.raw import HELLO, tool

with warnings.catch_warnings():  # Its models are written in an older pydantic's way.
    warnings.simplefilter("ignore", DeprecationWarning)
    import lunar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lunar_core.sandbox import Sandbox


@pytest.fixture(params=["documented", "observed"])
def either(request: pytest.FixtureRequest, lunar_sandbox_factory: Any) -> Sandbox:
    return lunar_sandbox_factory(dialect=request.param)


@pytest.fixture
def vendor(either: Sandbox) -> Iterator[Any]:
    client = lunar.Lunar(api_key=either.api_key, base_url=either.url)
    yield client
    client.close()


class TestTheVendorsSdk:
    def test_it_chats(self, vendor: Any) -> None:
        response = vendor.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
        assert response.choices[0].message.content == "Hello! How can I help you today?"
        assert response.usage.total_cost_usd > 0

    def test_it_streams_by_the_references_own_loop(self, vendor: Any) -> None:
        stream = vendor.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True)
        text = ""
        for chunk in stream:
            if chunk.choices[0].delta.content:
                text += chunk.choices[0].delta.content
        assert text == "Hello! How can I help you today?"

    def test_it_completes(self, vendor: Any) -> None:
        response = vendor.completions.create(model="gpt-4o-mini", prompt="Count to 3")
        assert response.choices[0].text == "1 2 3"

    def test_it_falls_back(self, vendor: Any, either: Sandbox) -> None:
        vendor._config.num_retries = 0
        response = vendor.chat.completions.create(
            model="gpt-4o!503", messages=HELLO, fallbacks=["claude-3-haiku", "llama-3.1-8b"]
        )
        assert response.model == "claude-3-haiku"
        assert [seen["status"] for seen in either.requests()] == [503, 200]
        assert "fallbacks" not in either.requests()[0]["body"]

    def test_it_lists_models_and_providers(self, vendor: Any) -> None:
        assert vendor.models.list()[0].id == "gpt-4o"
        assert vendor.providers.list(model="gpt-4o-mini")[0].type in ("primary", "openai_litellm")

    def test_its_errors_are_typed(self, vendor: Any, either: Sandbox) -> None:
        with pytest.raises(lunar._exceptions.NotFoundError):
            vendor.chat.completions.create(model="nope", messages=HELLO)
        stranger = lunar.Lunar(api_key="nope", base_url=either.url)
        with pytest.raises(lunar._exceptions.AuthenticationError):
            stranger.chat.completions.create(model="gpt-4o", messages=HELLO)
        stranger.close()


@pytest.fixture
def client(lunar_sandbox: Sandbox) -> Iterator[Any]:
    headers = {"x-api-key": lunar_sandbox.api_key}
    base_url = f"{lunar_sandbox.url}/v1"
    with openai.OpenAI(
        base_url=base_url, api_key="unused", default_headers=headers, max_retries=1
    ) as made:
        yield made


class TestOpenAI:
    def test_it_chats(self, client: Any) -> None:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        assert answer.choices[0].message.content == "Hello! How can I help you today?"
        assert answer.usage.total_cost_usd > 0

    def test_it_takes_a_token(self, lunar_sandbox: Sandbox) -> None:
        base_url = f"{lunar_sandbox.url}/v1"
        with openai.OpenAI(base_url=base_url, api_key="head.payload.signature") as client:
            assert client.models.list().data[0].id == "gpt-4o"

    def test_it_streams_with_usage(self, client: Any) -> None:
        with client.chat.completions.create(
            model="gpt-4o", messages=HELLO, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == "Hello! How can I help you today?"
        assert chunks[-1].usage.total_tokens == 11

    @pytest.mark.parametrize("stream", [False, True])
    def test_it_calls_tools_and_goes_on(self, client: Any, *, stream: bool) -> None:
        tools = [tool("get_weather", "Weather somewhere", city={"type": "string"})]
        messages: list[Any] = [{"role": "user", "content": "How is the weather in Rome?"}]
        if stream:
            with client.chat.completions.stream(
                model="gpt-4o", messages=messages, tools=tools
            ) as events:
                message = events.get_final_completion().choices[0].message
        else:
            answer = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools)
            message = answer.choices[0].message
        (call,) = message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Rome"}
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        asked = {"role": "assistant", "content": None, "tool_calls": [call.model_dump(
            include={"id", "type", "function"}
        )]}  # fmt: skip
        asked["tool_calls"][0]["function"].pop("parsed_arguments", None)
        final = client.chat.completions.create(
            model="gpt-4o", messages=[*messages, asked, result], tools=tools
        )
        assert "sunny" in final.choices[0].message.content

    def test_it_completes_text(self, client: Any) -> None:
        answer = client.completions.create(model="gpt-4o", prompt="Count to 3")
        assert answer.choices[0].text == "1 2 3"

    def test_it_retries_what_fails_once(self, client: Any, lunar_sandbox: Sandbox) -> None:
        answer = client.chat.completions.create(model="gpt-4o!429-ms=0.01*1", messages=HELLO)
        assert answer.choices[0].finish_reason == "stop"
        assert [seen["status"] for seen in lunar_sandbox.requests()] == [429, 200]
