"""A cost that is unknown is None, and is told of once: by name, so that it can be filtered."""

import asyncio
import warnings

import pytest

from lunar_core import Lunar, LunarCostWarning
from lunar_core.client.pair import ClientPair
from lunar_core.settings import Settings
from tests.faults_steps import completion, reply, spoken, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "p"}]}
CHEAP = {"total_tokens": 3, "total_cost_usd": 0.000045}


def read(client):
    stream = client.chat.completions.create(**QUESTION, stream=True)
    for _chunk in stream:
        pass
    return stream


def costs_told(caught):
    return [str(each.message) for each in caught if each.category is LunarCostWarning]


def test_the_first_stream_without_a_cost_warns_once_for_each_client(connect, fault_server):
    fault_server.always(sse(*spoken("Hello", usage=None)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            client = connect(fault_server)
            assert read(client).cost is None
            read(client)
            read(client.with_options(timeout=5))
    first, second = costs_told(caught)
    assert first == second
    for word in ("cost", "disable_streaming=True", "estimates"):
        assert word in first


def test_the_warning_stands_where_the_caller_reads(fault_server):
    fault_server.always(sse(*spoken("Hello", usage=None)))
    with (
        warnings.catch_warnings(record=True) as caught,
        Lunar("k", base_url=fault_server.origin) as client,
    ):
        warnings.simplefilter("always")
        read(client)
    assert [each.filename for each in caught] == [__file__]


def test_a_pair_of_clients_warns_once_for_both(fault_server):
    fault_server.always(sse(*spoken("Hello", usage=None)))
    pair = ClientPair(Settings.resolve(api_key="k", base_url=fault_server.origin))

    async def read_async(clients):
        async with clients.asynchronous as client:
            stream = await client.chat.completions.create(**QUESTION, stream=True)
            assert [chunk async for chunk in stream]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(read_async(pair))
        read(pair.sync)
        patient = pair.with_settings(pair.settings.with_changes({"timeout": 5}))
        read(patient.sync)
    pair.close()
    patient.close()
    assert len(costs_told(caught)) == 1


def test_a_stream_that_states_its_cost_and_a_plain_answer_warn_of_nothing(connect, fault_server):
    fault_server.script(
        sse(*spoken("Hello", usage=CHEAP)), reply(json=completion("Hello", usage=CHEAP))
    )
    client = connect(fault_server)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert str(read(client).cost) == "0.000045"
        assert str(client.chat.completions.create(**QUESTION).cost) == "0.000045"


def test_a_warning_that_is_an_error_costs_neither_the_answer_nor_the_connection(
    connect, fault_server
):
    fault_server.always(sse(*spoken("Hello", usage=None)))
    client = connect(fault_server)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LunarCostWarning):
            list(stream)
    assert stream.get_final_completion().choices[0].message.content == "Hello"
    assert read(client).usage is None
