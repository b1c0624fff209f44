"""A call is one span, with its tokens, its cost and its route, and no text unless asked."""

import json

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from lunar_core import (
    AsyncLunar,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    Lunar,
    LunarError,
    Prices,
)
from lunar_core.otel import LunarTelemetry
from lunar_core.wire.catalogue import Model
from tests.core.telemetry.conftest import HELLO, SECRET, Recorder
from tests.faults_steps import completion, reply


def test_a_call_is_one_client_span_with_its_tokens_and_its_bill(recorder, new_client):
    answer = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, temperature=0.5, max_tokens=50, stop=["END"]
    )
    span = recorder.span()
    assert (span.name, span.kind) == ("chat gpt-4o-mini", SpanKind.CLIENT)
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lunar",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.stream": False,
        "gen_ai.response.id": answer.id,
        "gen_ai.response.model": answer.model,
        "gen_ai.response.finish_reasons": (answer.choices[0].finish_reason,),
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "llm.cost.total": answer.usage.total_cost_usd,
        "llm.cost.prompt": answer.usage.input_cost_usd,
        "llm.cost.completion": answer.usage.output_cost_usd,
        "lunar.call_id": answer.call.call_id,
    }
    assert expected.items() <= dict(span.attributes).items()


def test_tokens_of_the_cache_and_of_reasoning_are_told(recorder, fault_server):
    usage = {
        "prompt_tokens": 30,
        "completion_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 7},
    }
    fault_server.always(reply(json=completion(usage=usage)))
    client = Lunar("pk_test_1234", base_url=fault_server.origin, observers=[recorder.telemetry])
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    told = {name: count for name, count in recorder.span().attributes.items() if "usage" in name}
    assert told == {
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 7,
    }


def test_a_parameters_type_is_the_conventions_whatever_the_callers(recorder, new_client):
    new_client(recorder.telemetry).chat.completions.create(
        model="router",
        messages=HELLO,
        cost_weight=5,
        temperature=1,
        top_p=1,
        max_completion_tokens=20,
        seed=3,
        stop="END",
    )
    attributes = recorder.span().attributes
    values = {
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.seed": 3,
        "gen_ai.request.stop_sequences": ("END",),
        "lunar.cost_weight": 5.0,
    }
    assert values.items() <= dict(attributes).items()
    assert {name: type(attributes[name]) for name in values} == {
        name: type(value) for name, value in values.items()
    }


def test_what_is_unknown_is_absent(recorder, fault_server):
    usage = {"prompt_tokens": 3, "total_cost_usd": None, "completion_tokens_details": {}}
    fault_server.always(reply(json=completion(usage=usage)))
    client = Lunar("pk_test_1234", base_url=fault_server.origin, observers=[recorder.telemetry])
    client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    names = recorder.span().attributes.keys()
    stated = {name for name in names if name.startswith(("gen_ai.usage.", "llm.cost.", "lunar."))}
    assert stated == {"gen_ai.usage.input_tokens", "lunar.call_id"}
    assert "lunar.client.cost" not in recorder.metrics()


def test_no_text_is_recorded_unless_asked(new_client):
    for asked in (False, True):
        recorder = Recorder(record_content=asked)
        answer = new_client(recorder.telemetry).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO
        )
        text = json.dumps(dict(recorder.span().attributes), default=str)
        assert (SECRET in text, answer.choices[0].message.content in text) == (asked, asked)


def test_content_has_the_conventions_form(new_client):
    recorder = Recorder(record_content=True)
    answer = new_client(recorder.telemetry).completions.create(model="gpt-4o-mini", prompt="Once")
    attributes = recorder.span().attributes
    assert json.loads(attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "Once"}]}
    ]
    (message,) = json.loads(attributes["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": answer.choices[0].text}]
    assert recorder.span().name == "text_completion gpt-4o-mini"


def test_content_tells_of_tool_calls(new_client):
    recorder = Recorder(record_content=True)
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    answer = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, tools=[tool], tool_choice="required"
    )
    (call,) = answer.choices[0].message.tool_calls
    (message,) = json.loads(recorder.span().attributes["gen_ai.output.messages"])
    assert message["parts"] == [
        {
            "type": "tool_call",
            "id": call.id,
            "name": "add",
            "arguments": call.function.arguments,
        }
    ]
    assert message["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("extra", [{}, {"stop": ["END"]}], ids=["one request", "decide first"])
def test_a_routed_call_is_one_span_with_its_route(recorder, new_client, extra):
    answer = new_client(recorder.telemetry).chat.completions.create(
        model="router", messages=HELLO, cost_weight=5.0, **extra
    )
    span = recorder.span()
    assert span.name == "chat router"
    assert span.attributes["lunar.routing.selected_model"] == answer.routing.selected_model
    assert span.attributes["lunar.routing.expected_error"] == answer.routing.expected_error
    assert span.attributes["lunar.provider"] == answer.routing.selected_provider
    assert span.attributes["lunar.cost_weight"] == 5.0
    assert span.attributes["gen_ai.response.model"] == answer.model


def test_a_decision_alone_is_a_span_of_its_own_kind(recorder, new_client):
    new_client(recorder.telemetry).router.decide(messages=HELLO)
    assert recorder.span().attributes["gen_ai.operation.name"] == "route"


async def test_a_stream_tells_when_its_first_content_came(recorder, lunar_sandbox):
    async with AsyncLunar(
        lunar_sandbox.api_key, base_url=lunar_sandbox.url, observers=[recorder.telemetry]
    ) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True, stream_usage=True
        )
        async for _ in stream:
            pass
    span = recorder.span()
    assert span.attributes["gen_ai.request.stream"] is True
    first = span.attributes["gen_ai.response.time_to_first_chunk"]
    assert first == stream.call.ttft_ms / 1000
    assert span.attributes["llm.cost.total"] == stream.usage.total_cost_usd
    (point,) = recorder.metrics()["gen_ai.client.operation.time_to_first_chunk"]
    assert point.sum == first


def test_a_failure_is_named_by_its_class(recorder, new_client):
    with pytest.raises(BadRequestError):
        new_client(recorder.telemetry).chat.completions.create(
            model="gpt-4o-mini!400", messages=HELLO
        )
    span = recorder.span()
    assert span.attributes["error.type"] == "BadRequestError"
    assert span.status.status_code is StatusCode.ERROR
    assert "llm.cost.total" not in span.attributes
    (duration,) = recorder.metrics()["gen_ai.client.operation.duration"]
    assert duration.attributes["error.type"] == "BadRequestError"


class Refusing:
    def before(self, call):
        raise BudgetExceededError("no more")

    def after(self, outcome):
        raise AssertionError("never told")


def test_a_call_that_a_later_observer_refuses_is_named_too(recorder, new_client):
    with pytest.raises(LunarError):
        new_client(recorder.telemetry, Refusing()).chat.completions.create(
            model="gpt-4o-mini", messages=HELLO
        )
    assert recorder.span().attributes["error.type"] == "BudgetExceededError"


def test_an_estimate_is_told_apart_from_a_bill(lunar_sandbox_factory):
    prices = Prices.of([Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6)])
    recorder = Recorder(prices=prices)
    box = lunar_sandbox_factory(dialect="observed")
    client = Lunar(box.api_key, base_url=box.url, observers=[recorder.telemetry])
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=HELLO, stream=True):
        pass
    attributes = recorder.span().attributes
    assert attributes["lunar.cost.estimated"] > 0
    assert "llm.cost.total" not in attributes


def test_what_cannot_work_is_refused_by_name():
    with pytest.raises(ConfigurationError, match="record_content"):
        LunarTelemetry(record_content="yes")
    with pytest.raises(ConfigurationError, match="prices"):
        LunarTelemetry(prices={})
