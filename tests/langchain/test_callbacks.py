"""The cost handler says what the service billed: each call once, to the last digit."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import context

from langchain_lunar import LunarCostCallbackHandler, LunarLLM, callbacks, get_lunar_cost
from lunar_core import APIStreamError, ConfigurationError, Entry, Ledger, LunarError, tags
from tests.faults_steps import chunk, reset, sse

LONG = "Count to 200"
QUESTIONS = ["Say hi", "Repeat: one two three", "What is 2 + 2?", "Name a colour"]


def leave_early(model, config):
    with contextlib.closing(model.stream(LONG, config)) as chunks:
        next(chunks)


def leave_early_in_async_code(model, config):
    async def leave():
        async with contextlib.aclosing(model.astream(LONG, config)) as chunks:
            await anext(chunks)

    asyncio.run(leave())


async def in_tasks(model, config):
    await asyncio.gather(*(model.ainvoke(question, config) for question in QUESTIONS))


async def streamed(model, config):
    async for _ in model.astream(QUESTIONS[1], config):
        pass


WAYS = {
    "invoke": lambda model, config: model.invoke(QUESTIONS[0], config),
    "stream": lambda model, config: list(model.stream(QUESTIONS[1], config)),
    "batch": lambda model, config: model.batch(QUESTIONS, config),
    "ainvoke": lambda model, config: asyncio.run(model.ainvoke(QUESTIONS[0], config)),
    "astream": lambda model, config: asyncio.run(streamed(model, config)),
    "abatch": lambda model, config: asyncio.run(model.abatch(QUESTIONS, config)),
    "gather": lambda model, config: asyncio.run(in_tasks(model, config)),
}


@pytest.fixture(params=["gpt-4o-mini", "router", "text"])
def make(request, chat, lunar_sandbox):
    """Make a model of each kind."""
    if request.param != "text":
        return functools.partial(chat, request.param)
    settings = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
    return functools.partial(LunarLLM, model="gpt-4o-mini", **settings)


@pytest.fixture
def model(make):
    return make()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_the_handler_counts_what_was_billed(way, model, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    way(model, {"callbacks": [handler]})
    bills = lunar_sandbox.billed()
    assert handler.total_cost == lunar_sandbox.total_billed() > 0
    assert handler.total_tokens == sum(b["prompt_tokens"] + b["completion_tokens"] for b in bills)
    assert (len(handler.ledger), handler.unpriced) == (len(bills), 0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_so_does_the_block(way, model, lunar_sandbox):
    with get_lunar_cost() as cost:
        way(model, None)
    assert cost.total_cost == lunar_sandbox.total_billed() > 0


def test_a_handler_on_the_model_and_in_the_config_counts_a_call_once(chat, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    with get_lunar_cost() as cost:
        chat(callbacks=[handler]).invoke("Say hi", {"callbacks": [handler]})
    assert handler.total_cost == cost.total_cost == lunar_sandbox.total_billed()
    assert len(handler.ledger) == len(cost.ledger) == 1


def test_a_ledger_that_also_observes_the_client_counts_a_call_once(way, make, lunar_sandbox):
    ledger = Ledger()
    handler = LunarCostCallbackHandler(ledger)
    config = {"callbacks": [handler], "metadata": {"user": "u1"}}
    way.invoke(make(observers=[ledger]), "Say hi", config)
    assert (len(ledger), ledger.total_cost) == (1, lunar_sandbox.total_billed())
    assert handler.by_metadata("user")["u1"].cost == lunar_sandbox.total_billed()


@pytest.mark.parametrize("fault", ["404", "503", "hangup", "no-choices"])
def test_such_a_ledger_counts_a_failed_call_once_too(chat, way, fault):
    ledger = Ledger()
    config = {"callbacks": [LunarCostCallbackHandler(ledger)]}
    with pytest.raises(LunarError):
        way.invoke(chat(f"gpt-4o!{fault}", observers=[ledger]), "Say hi", config)
    assert len(ledger) == 1


@pytest.mark.parametrize("leave", [leave_early, leave_early_in_async_code], ids=["sync", "async"])
def test_such_a_ledger_counts_a_stream_that_is_left_once_too(make, leave):
    ledger = Ledger()
    leave(make(observers=[ledger]), {"callbacks": [LunarCostCallbackHandler(ledger)]})
    answers = [entry for entry in ledger if entry.endpoint != "router.decide"]
    assert [entry.status for entry in answers] == ["aborted"]


def test_an_answer_from_the_cache_costs_nothing_and_says_what_it_saved(chat, lunar_sandbox):
    handler, model = LunarCostCallbackHandler(), chat(cache=InMemoryCache())
    for _ in range(3):
        model.invoke("Say hi", {"callbacks": [handler]})
    billed = lunar_sandbox.total_billed()
    assert len(lunar_sandbox.billed()) == 1
    assert (handler.total_cost, handler.saved, handler.unpriced) == (billed, 2 * billed, 0)


def test_a_stream_that_is_left_is_listed_as_unpriced(chat):
    handler = LunarCostCallbackHandler()
    leave_early(chat(), {"callbacks": [handler]})
    (entry,) = handler.ledger
    assert (entry.status, entry.cost, handler.unpriced) == ("aborted", None, 1)


def test_a_stream_that_breaks_keeps_the_cost_that_had_arrived(scripted, fault_server):
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "total_cost_usd": 1e-6}
    fault_server.script(sse(chunk("Hel", usage=usage), reset))
    handler = LunarCostCallbackHandler()
    with pytest.raises(Exception, match="cut off"):
        list(scripted().stream("Hello", {"callbacks": [handler]}))
    (entry,) = handler.ledger
    assert (entry.status, entry.cost, entry.total_tokens) == ("failed", Decimal("0.000001"), 4)


def test_a_call_that_broke_off_without_a_word_may_have_been_billed(scripted, fault_server):
    fault_server.script(sse(chunk("Hel"), reset))
    handler = LunarCostCallbackHandler()
    with pytest.raises(APIStreamError):
        list(scripted().stream("Hello", {"callbacks": [handler]}))
    assert (handler.total_cost, handler.unpriced) == (0, 1)


def test_a_call_that_the_service_refused_cost_nothing(chat):
    handler = LunarCostCallbackHandler()
    with pytest.raises(Exception, match="404"):
        chat("no-such-model").invoke("Say hi", {"callbacks": [handler]})
    assert (handler.total_cost, handler.unpriced) == (0, 0)


def test_a_model_of_another_vendor_is_counted_and_its_cost_unknown():
    handler = LunarCostCallbackHandler()
    FakeListChatModel(responses=["hi"]).invoke("Say hi", {"callbacks": [handler]})
    assert (len(handler.ledger), handler.total_cost, handler.unpriced) == (1, 0, 1)


def test_blocks_nest_and_the_outer_one_counts_the_inner_ones_calls(chat):
    with get_lunar_cost() as outer:
        chat().invoke("Say hi")
        with get_lunar_cost() as inner:
            chat().invoke("Repeat: one two three")
        chat().invoke("Say hi")
    assert (len(outer.ledger), len(inner.ledger)) == (3, 1)
    assert inner.total_cost < outer.total_cost


def test_after_an_exception_in_the_block_nothing_more_is_counted(chat):
    blocks = []

    def fail():
        with get_lunar_cost() as cost:
            blocks.append(cost)
            chat().invoke("Say hi")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    chat().invoke("Say hi")
    assert len(blocks[0].ledger) == 1


def test_blocks_leave_no_hook_behind():
    with get_lunar_cost():
        before = len(context._configure_hooks)
    for _ in range(100):
        with get_lunar_cost():
            pass
    assert len(context._configure_hooks) == before


def test_a_handler_may_be_shared_by_threads_of_ones_own(chat, lunar_sandbox):
    handler, model = LunarCostCallbackHandler(), chat()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda q: model.invoke(q, {"callbacks": [handler]}), QUESTIONS * 4))
    assert (len(handler.ledger), handler.total_cost) == (16, lunar_sandbox.total_billed())


def test_costs_are_told_apart_by_what_was_said_of_the_run(chat, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    step = RunnableLambda(lambda question, config: chat().invoke(question, config))
    for user, tag in (("u1", "a"), ("u2", "b"), ("u1", "b")):
        config = {
            "callbacks": [handler],
            "metadata": {"user": user},
            "tags": [tag],
            "run_name": tag,
        }
        with tags(team="search"):
            step.invoke("Say hi", config)
    each = lunar_sandbox.total_billed() / 3
    assert {k: v.cost for k, v in handler.by_metadata("user").items()} == {
        "u1": 2 * each,
        "u2": each,
    }
    assert {k: v.calls for k, v in handler.by_run_tag.items()} == {"a": 1, "b": 2}
    assert handler.by_tag("team")["search"].calls == 3
    assert handler.by_model["gpt-4o-mini"].calls == 3
    assert len(handler.by_root_run) == 3


def test_structured_output_and_tools_are_counted_too(chat, lunar_sandbox):
    def multiply(a: int, b: int) -> int:
        """Multiply two numbers."""
        return a * b

    handler = LunarCostCallbackHandler()
    config = {"callbacks": [handler]}
    schema = {"title": "Colour", "type": "object", "properties": {"name": {"type": "string"}}}
    schema["description"] = "A colour."
    chat().with_structured_output(schema).invoke("Name a colour", config)
    chat("router").bind_tools([multiply], tool_choice="any").invoke("What is 3 times 4?", config)
    assert handler.total_cost == lunar_sandbox.total_billed() > 0


def test_the_key_is_in_no_handlers_repr(chat):
    handler = LunarCostCallbackHandler()
    chat().invoke("Say hi", {"callbacks": [handler]})
    assert "pk_" not in repr(handler)


@pytest.mark.parametrize("leave", [leave_early, leave_early_in_async_code], ids=["sync", "async"])
def test_beside_a_stream_that_is_left_all_else_is_counted(leave, model, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    leave(model, {"callbacks": [handler]})
    model.invoke("Say hi", {"callbacks": [handler]})
    bills = lunar_sandbox.billed(at_least=2)
    told = [b["total_cost_usd"] for b in bills if "streamed" not in b["tags"]]
    assert sorted(entry.status for entry in handler.ledger) == ["aborted", "ok"]
    assert ([float(handler.total_cost)], handler.unpriced) == (told, 1)


def test_a_routed_stream_that_is_left_says_which_model_it_was(chat):
    handler = LunarCostCallbackHandler()
    leave_early(chat("router"), {"callbacks": [handler]})
    (entry,) = handler.ledger
    assert (entry.requested_model, entry.provider) == ("router", "openai")
    assert entry.model.startswith("gpt-")


def test_a_text_stream_that_breaks_keeps_the_cost_that_had_arrived(fault_server):
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4, "total_cost_usd": 1e-6}
    piece = {"model": "gpt-4o-mini", "choices": [{"index": 0, "text": "Hel"}], "usage": usage}
    fault_server.script(sse(piece, reset))
    handler = LunarCostCallbackHandler()
    settings = {"api_key": "pk_live_test", "base_url": fault_server.origin, "max_retries": 0}
    with pytest.raises(APIStreamError):
        list(LunarLLM(model="gpt-4o-mini", **settings).stream("Hello", {"callbacks": [handler]}))
    (entry,) = handler.ledger
    assert (entry.status, entry.cost, entry.total_tokens) == ("failed", Decimal("0.000001"), 4)
    assert entry.call_id.startswith("call_")


def test_a_handler_that_only_sees_hits_of_the_cache_reports_nothing_but_savings(
    chat, way, lunar_sandbox
):
    model, handler = chat(cache=InMemoryCache()), LunarCostCallbackHandler()
    way.invoke(model, "Say hi")
    way.invoke(model, "Say hi", {"callbacks": [handler]})
    assert (handler.total_cost, handler.total_tokens) == (0, 0)
    assert handler.saved == lunar_sandbox.total_billed() > 0
    assert [entry.endpoint for entry in handler.ledger] == ["cache"]


def test_an_answer_that_another_run_hands_out_again_was_paid_for_once(chat, lunar_sandbox):
    """Caches other than langchain-core's don't mark what they give."""
    answer = chat().generate([[HumanMessage("Say hi")]])
    handler = LunarCostCallbackHandler()
    first, second = uuid4(), uuid4()
    for run_id in (first, first, second, second):
        handler.on_llm_end(answer, run_id=run_id)
    billed = lunar_sandbox.total_billed()
    assert (handler.total_cost, handler.saved, len(handler.ledger)) == (billed, billed, 2)


def test_another_vendors_model_is_told_by_its_tokens_and_name(way):
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    said = {"model_name": "claude-4", "model_provider": "anthropic"}
    message = AIMessage("hi", usage_metadata=usage, response_metadata=said)
    handler = LunarCostCallbackHandler()
    model = FakeMessagesListChatModel(responses=[message])
    way.invoke(model, "Say hi", {"callbacks": [handler]})
    total = handler.by_model["claude-4"]
    assert (total.total_tokens, total.cost, total.unpriced) == (7, 0, 1)
    assert handler.by_provider["anthropic"] == total


def test_blocks_within_a_call_that_the_outer_block_sees_count_it_once(chat, lunar_sandbox):
    """The outer handler is told of the inner call by LangChain as well."""

    def step(question):
        with get_lunar_cost() as inner:
            answer = chat().invoke(question)
        assert len(inner.ledger) == 1
        return answer

    with get_lunar_cost() as outer:
        RunnableLambda(step).invoke("Say hi")
    assert (len(outer.ledger), outer.total_cost) == (1, lunar_sandbox.total_billed())
    assert outer.saved == 0


def test_a_thread_that_is_given_the_context_counts_for_the_block(chat, lunar_sandbox):
    model = chat()
    with get_lunar_cost() as cost, ThreadPoolExecutor(4) as threads:
        runs = [
            threads.submit(contextvars.copy_context().run, model.invoke, question)
            for question in QUESTIONS
        ]
        for run in runs:
            run.result()
    assert (len(cost.ledger), cost.total_cost) == (4, lunar_sandbox.total_billed())


def test_blocks_in_tasks_side_by_side_do_not_mix(chat):
    async def spend(times):
        with get_lunar_cost() as cost:
            for _ in range(times):
                await chat().ainvoke("Say hi")
        return len(cost.ledger)

    async def both():
        return await asyncio.gather(spend(1), spend(3))

    assert asyncio.run(both()) == [1, 3]


def test_runs_that_never_end_do_not_pile_up(monkeypatch, chat):
    monkeypatch.setattr(callbacks, "MAX_RUNS", 3)
    handler, answer = LunarCostCallbackHandler(), chat().generate([[HumanMessage("Say hi")]])
    runs = [uuid4() for _ in range(5)]
    for run_id in runs:
        handler.on_llm_start({"name": "Model"}, ["Say hi"], run_id=run_id)
    for run_id in runs:
        answer.generations[0][0].message.response_metadata["call_id"] = str(run_id)
        handler.on_llm_end(answer, run_id=run_id)
    assert {name: total.calls for name, total in handler.by_run_name.items()} == {
        None: 2,
        "Model": 3,
    }


def test_names_of_runs_and_what_surrounds_them_are_told(chat):
    handler = LunarCostCallbackHandler()
    step = RunnableLambda(lambda question: chat().batch([question] * 2, {"run_name": "ask"}))
    for name in ("first", "second"):
        step.invoke("Say hi", {"callbacks": [handler], "run_name": name})
    assert {name: total.calls for name, total in handler.by_run_name.items()} == {"ask": 4}
    assert sorted(total.calls for total in handler.by_root_run.values()) == [2, 2]
    assert {entry.labels["root_run_name"] for entry in handler.ledger} == {"first", "second"}


def test_metadata_of_any_kind_can_be_told_apart(chat):
    handler = LunarCostCallbackHandler()
    chat().invoke("Say hi", {"callbacks": [handler], "metadata": {"teams": ["a", "b"]}})
    assert handler.by_metadata("teams")["['a', 'b']"].calls == 1


def test_a_handler_shows_itself_as_its_ledger_does():
    handler = LunarCostCallbackHandler()
    handler.ledger.add(Entry("a", "gpt-4o", cost="0.000045"))
    assert repr(handler) == "LunarCostCallbackHandler(calls=1, total_cost=0.000045, unpriced=0)"
    assert "$0.000045" in handler._repr_html_()
    assert handler.__rich__() is not None


def test_a_ledger_that_is_none_is_named_and_an_empty_one_is_kept():
    ledger = Ledger()
    assert LunarCostCallbackHandler(ledger).ledger is ledger
    with pytest.raises(ConfigurationError, match=r"^ledger: expected a Ledger, not 5"):
        LunarCostCallbackHandler(5)
    with pytest.raises(ConfigurationError, match=r"^ledger: "), get_lunar_cost(5):
        pass
