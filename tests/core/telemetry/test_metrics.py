"""Metrics add up what calls cost, in the conventions' units."""

import asyncio

import pytest

from lunar_core import AsyncLunar
from tests.core.telemetry.conftest import HELLO


def test_metrics_add_up_tokens_time_and_cost(recorder, new_client):
    client = new_client(recorder.telemetry)
    answers = [
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO) for _ in range(3)
    ]
    metrics = recorder.metrics()
    (cost,) = metrics["lunar.client.cost"]
    assert cost.value == pytest.approx(sum(answer.usage.total_cost_usd for answer in answers))
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in metrics["gen_ai.client.token.usage"]
    }
    assert tokens == {
        "input": sum(answer.usage.prompt_tokens for answer in answers),
        "output": sum(answer.usage.completion_tokens for answer in answers),
    }
    (duration,) = metrics["gen_ai.client.operation.duration"]
    assert duration.count == 3


def test_metrics_have_the_conventions_units_and_buckets(recorder, new_client):
    stream = new_client(recorder.telemetry).chat.completions.create(
        model="gpt-4o-mini", messages=HELLO, stream=True, stream_usage=True
    )
    stream.get_final_completion()
    instruments = recorder.instruments()
    assert {name: metric.unit for name, metric in instruments.items()} == {
        "gen_ai.client.token.usage": "{token}",
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.operation.time_to_first_chunk": "s",
        "lunar.client.cost": "{USD}",
    }
    bounds = {
        name: list(points[0].explicit_bounds)
        for name, points in recorder.metrics().items()
        if name != "lunar.client.cost"
    }
    tokens = bounds.pop("gen_ai.client.token.usage")
    assert (tokens[:4], tokens[-1], len(tokens)) == ([1, 4, 16, 64], 67_108_864, 14)
    for seconds in bounds.values():
        assert (seconds[0], seconds[-1], len(seconds)) == (0.01, 81.92, 14)
        assert seconds[1:] == pytest.approx([2 * bound for bound in seconds[:-1]])
    assert instruments["lunar.client.cost"].data.is_monotonic


async def test_a_call_that_was_cancelled_names_no_model_that_answered(recorder, lunar_sandbox):
    async with AsyncLunar(
        lunar_sandbox.api_key, base_url=lunar_sandbox.url, observers=[recorder.telemetry]
    ) as client:
        call = asyncio.create_task(
            client.chat.completions.create(model="gpt-4o-mini!slow=5", messages=HELLO)
        )
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert "gen_ai.response.model" not in recorder.span().attributes
    (duration,) = recorder.metrics()["gen_ai.client.operation.duration"]
    assert "gen_ai.response.model" not in duration.attributes
