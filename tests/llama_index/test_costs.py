"""What calls cost: events, handlers and blocks, with the tags of the moment each call was made."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from llama_index.core import Settings
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.dispatcher import instrument_tags

import lunar_core
from llama_index_lunar import LunarCostCallback, LunarCostHandler, lunar_cost
from lunar_core import BudgetExceededError, ConfigurationError, Entry, Ledger, LunarError
from tests.faults_steps import DONE, USAGE, chunk, completion, hang, reply, sse
from tests.llama_index.support import ENDPOINTS, STREAMS, ask, until, user


@pytest.fixture
def handler():
    """A LunarCostHandler that the dispatcher knows."""
    costs = LunarCostHandler()
    get_dispatcher().event_handlers.append(costs)
    yield costs
    costs.close()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_each_call_is_told_once_with_what_was_billed(endpoint, llm, lunar_sandbox, recorder):
    with instrument_tags({"tenant": "acme", "n": 1}), lunar_core.tags(user="u1"):
        last = (await ask(llm, endpoint))[-1]
    (bill,) = lunar_sandbox.billed(at_least=1)
    (event,) = recorder.usage
    assert event.total_cost_usd == event.usage["total_cost_usd"] == bill["total_cost_usd"]
    assert event.call_id == last.additional_kwargs["call_id"]
    assert (event.model, event.requested_model) == ("gpt-4o-mini", "gpt-4o-mini")
    assert (event.status, event.partial, event.streamed) == ("ok", False, "stream" in endpoint)
    assert event.tags == {"tenant": "acme", "n": 1, "user": "u1"}
    assert event.span_id.startswith(f"LunarLLM.{endpoint}-")
    assert [attempt["status_code"] for attempt in event.attempts] == [200]


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_a_stream_that_is_read_elsewhere_keeps_the_tags_of_its_call(endpoint, llm, recorder):
    said = "Say hi" if "complete" in endpoint else user("Say hi")
    with instrument_tags({"tenant": "acme"}), lunar_core.tags(user="u1"), lunar_cost() as costs:
        stream = getattr(llm, endpoint)(said)
        stream = await stream if endpoint.startswith("a") else stream
    with instrument_tags({"tenant": "other"}), lunar_core.tags(user="u2"), lunar_cost() as others:
        if endpoint.startswith("a"):
            _ = [each async for each in stream]
        else:
            list(stream)
    assert recorder.usage[0].tags == {"tenant": "acme", "user": "u1"}
    assert {event.tags["tenant"] for event in recorder.events} == {"acme"}
    assert costs.by_tag("tenant").keys() == {"acme"}
    assert costs.total_cost > 0
    assert len(others.ledger) == 0


async def test_lunars_own_tags_win_over_llamaindexs(llm, recorder):
    with instrument_tags({"tenant": "acme"}), lunar_core.tags(tenant="booked-on"):
        await ask(llm, "chat")
    assert recorder.usage[0].tags == {"tenant": "booked-on"}


async def test_observers_see_llamaindexs_tags_too(llm_on, lunar_sandbox):
    ledger = Ledger()
    llm = llm_on(lunar_sandbox, observers=[ledger])
    with instrument_tags({"tenant": "acme"}):
        await ask(llm, "achat")
    assert ledger.by_tag("tenant").keys() == {"acme"}


async def test_a_handler_adds_up_all_llms(handler, llm, router, lunar_sandbox):
    for endpoint in ENDPOINTS:
        await ask(llm, endpoint)
        await ask(router, endpoint, "Prove it")
    assert handler.total_cost == lunar_sandbox.total_billed()
    assert handler.ledger.total.calls == 16
    assert handler.by_model.keys() == {"gpt-4o-mini", "gpt-4-turbo"}
    assert handler.by_provider.keys() == {"openai", None}
    assert handler.unpriced == 0
    assert handler.total_tokens > 0
    assert handler.class_name() == "LunarCostHandler"


async def test_a_callback_adds_up_its_llms(llm_on, lunar_sandbox):
    costs = LunarCostCallback()
    llm = llm_on(lunar_sandbox, callback_manager=CallbackManager([costs]))
    for endpoint in ENDPOINTS:
        with lunar_core.tags(endpoint=endpoint):
            await ask(llm, endpoint)
    assert costs.total_cost == lunar_sandbox.total_billed()
    assert len(costs.ledger) == 8
    assert costs.by_tag("endpoint").keys() == set(ENDPOINTS)


async def test_both_systems_may_listen_and_a_shared_ledger_counts_once(llm_on, lunar_sandbox):
    ledger = Ledger()
    callback, handler = LunarCostCallback(ledger), LunarCostHandler(ledger=ledger)
    Settings.callback_manager = CallbackManager([callback])
    Settings.llm = llm_on(lunar_sandbox, observers=[ledger])
    get_dispatcher().event_handlers.append(handler)
    try:
        with lunar_cost(ledger=ledger):
            for endpoint in ENDPOINTS:
                await ask(Settings.llm, endpoint)
    finally:
        handler.close()
    assert len(ledger) == 8
    assert ledger.total_cost == lunar_sandbox.total_billed()


def test_a_callback_takes_answers_that_come_from_elsewhere():
    costs = LunarCostCallback()
    known = {"call_id": "c1", "model": "m", "total_cost_usd": 0.5, "prompt_tokens": 1}
    response = ChatResponse(message=ChatMessage("hi"), additional_kwargs=known)
    for _ in range(2):
        costs.on_event_end(CBEventType.LLM, {EventPayload.RESPONSE: response}, event_id="e1")
    costs.on_event_end(CBEventType.EMBEDDING, {EventPayload.RESPONSE: response}, event_id="e2")
    costs.on_event_end(CBEventType.LLM, {EventPayload.EXCEPTION: ValueError()}, event_id="e3")
    assert costs.total_cost == Decimal("0.5")
    assert len(costs.ledger) == 1


# Blocks


async def test_a_block_counts_its_own_calls_and_no_others(llm, lunar_sandbox):
    async def tenant(name, calls):
        with lunar_cost(tags={"tenant": name}) as costs:
            await asyncio.gather(*(llm.acomplete(f"Say {name} {n}") for n in range(calls)))
        return costs

    one, two, _ = await asyncio.gather(tenant("a", 3), tenant("b", 5), llm.acomplete("Say none"))
    assert (len(one.ledger), len(two.ledger)) == (3, 5)
    assert one.by_tag("tenant").keys() == {"a"}
    total = one.total_cost + two.total_cost
    assert Decimal(0) < total < lunar_sandbox.total_billed()


def test_blocks_nest_and_the_inner_tag_wins(llm):
    with lunar_cost(tags={"tenant": "acme", "step": "outer"}) as outer:
        llm.complete("Say one")
        with lunar_cost(tags={"step": "inner"}) as inner:
            llm.complete("Say two")
    assert (len(outer.ledger), len(inner.ledger)) == (2, 1)
    assert outer.by_tag("step").keys() == {"outer", "inner"}
    assert outer.by_tag("tenant")["acme"].calls == 2


def test_threads_count_where_their_context_says(llm):
    import contextvars

    with lunar_cost() as costs, ThreadPoolExecutor(4) as pool:
        contexts = [contextvars.copy_context() for _ in range(8)]
        work = [pool.submit(each.run, llm.complete, f"Say {n}") for n, each in enumerate(contexts)]
        assert [each.result().text for each in work] == [str(n) for n in range(8)]
    assert len(costs.ledger) == 8
    stranger = threading.Thread(target=llm.complete, args=("Say stranger",))
    stranger.start()
    stranger.join()
    assert len(costs.ledger) == 8


def test_the_tags_of_a_block_are_on_all_of_llamaindexs_events(llm, recorder):
    with lunar_cost(tags={"tenant": "acme"}):
        llm.complete("Say hi")
    assert {event.tags.get("tenant") for event in recorder.events} == {"acme"}


# Streams that are left, calls that fail


USED = chunk("b", usage=USAGE)


@pytest.mark.parametrize("endpoint", STREAMS)
@pytest.mark.parametrize("how", ["left", "closed", "dropped"])
async def test_a_stream_that_is_left_is_told_as_partial(
    endpoint, how, llm_on, faults, recorder, handler
):
    told = [] if how == "dropped" else [USED, chunk("c")]
    faults.always(sse(chunk("a"), *told, hang))
    callback = LunarCostCallback()
    llm = llm_on(faults, callback_manager=CallbackManager([callback]))
    with lunar_cost(tags={"tenant": "acme"}) as costs:
        await leave(llm, endpoint, how)
    await until(lambda: recorder.usage)
    (event,) = recorder.usage
    assert (event.status, event.partial) == ("aborted", True)
    assert event.tags["tenant"] == "acme"
    expected = Decimal(0) if how == "dropped" else Decimal("0.000045")
    for view in (costs, handler, callback):
        assert (len(view.ledger), view.total_cost) == (1, expected)
        assert view.unpriced == (how == "dropped")


async def leave(llm, endpoint, how):
    """Read two chunks and leave; or none at all."""
    said = "hi" if "complete" in endpoint else user("hi")
    stream = getattr(llm, endpoint)(said)
    if not endpoint.startswith("a"):
        if how != "dropped":
            next(stream), next(stream)
        if how == "closed":
            stream.close()
        return
    stream = await stream
    if how != "dropped":
        await anext(stream), await anext(stream)
    if how == "closed":
        await stream.aclose()


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_a_stream_that_breaks_off_is_told_with_what_it_used(
    endpoint, llm_on, faults, recorder
):
    faults.always(sse(chunk("a"), USED, {"error": {"message": "overloaded"}}))
    with lunar_cost() as costs, pytest.raises(LunarError, match="overloaded"):
        await ask(llm_on(faults), endpoint)
    (event,) = recorder.usage
    assert (event.status, event.partial) == ("failed", True)
    assert "overloaded" in event.error
    assert costs.total_cost == Decimal("0.000045")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_call_that_the_service_refused_cost_nothing(endpoint, llm_on, faults, recorder):
    faults.always(reply(400, json={"detail": "no"}))
    with lunar_cost() as costs, pytest.raises(LunarError):
        await ask(llm_on(faults), endpoint)
    assert recorder.usage == []
    assert len(costs.ledger) == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_retries_and_fallbacks_are_one_call_of_the_model_that_answered(
    endpoint, llm_on, lunar_sandbox, recorder
):
    llm = llm_on(lunar_sandbox, model="gpt-4o!503", fallbacks=["gpt-4o-mini"], max_retries=0)
    with lunar_cost() as costs:
        last = (await ask(llm, endpoint))[-1]
    assert last.additional_kwargs["model"] == "gpt-4o-mini"
    assert [a["status_code"] for a in last.additional_kwargs["attempts"]] == [503, 200]
    (event,) = recorder.usage
    assert event.model == "gpt-4o-mini"
    assert len(event.attempts) == 2
    assert costs.by_model.keys() == {"gpt-4o-mini"}
    assert costs.total_cost == lunar_sandbox.total_billed()


async def test_a_cancelled_call_is_told_as_aborted(llm_on, faults, recorder):
    faults.always([hang])
    call = asyncio.ensure_future(llm_on(faults).achat(user("hi")))
    await until(lambda: faults.requests)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (event,) = recorder.usage
    assert (event.status, event.usage) == ("aborted", None)


class Budget:
    """Refuses after the first call."""

    calls = 0

    def before(self, call):
        if self.calls:
            raise BudgetExceededError("spent")

    def after(self, outcome):
        self.calls += 1


async def test_an_observer_refuses_before_anything_is_sent(llm_on, lunar_sandbox, recorder):
    llm = llm_on(lunar_sandbox, observers=[Budget()])
    await ask(llm, "complete")
    for endpoint in ENDPOINTS:
        with pytest.raises(BudgetExceededError):
            await ask(llm, endpoint)
    assert len(lunar_sandbox.requests()) == 1
    assert len(recorder.usage) == 1
    assert calls_under_way(llm) == {}  # nothing is kept of refused calls


def calls_under_way(llm):
    (reporter,) = (each for each in llm._clients.observers if each not in llm.observers)
    return reporter._moments


async def test_nothing_is_kept_of_calls_that_are_over(llm_on, faults, recorder):
    faults.script(
        reply(json=completion()), reply(400), sse(chunk("a", finish="stop"), DONE), reply(503)
    )
    llm = llm_on(faults, max_retries=0)
    for endpoint in ("chat", "chat", "stream_chat", "astream_chat"):
        try:
            await ask(llm, endpoint)
        except LunarError:
            continue
    assert calls_under_way(llm) == {}


def test_a_handler_that_fails_costs_nobody_an_answer(llm):
    class Broken(LunarCostHandler):
        def handle(self, event, **kwargs):
            raise RuntimeError

    broken = Broken()
    get_dispatcher().event_handlers.append(broken)
    try:
        assert llm.complete("Say hi").text == "hi"
    finally:
        broken.close()


@pytest.mark.parametrize("kind", [LunarCostHandler, LunarCostCallback])
def test_a_handler_shows_itself_as_its_ledger_does(kind):
    ledger = Ledger()
    ledger.add(Entry("a", "gpt-4o", cost="0.000045"))
    handler = kind(ledger=ledger)
    assert repr(handler) == f"{kind.__name__}(calls=1, total_cost=0.000045, unpriced=0)"
    assert "$0.000045" in handler._repr_html_()
    assert handler.__rich__() is not None


def test_a_ledger_or_tags_that_cannot_be_are_named_and_an_empty_ledger_is_kept():
    ledger = Ledger()
    assert LunarCostCallback(ledger).ledger is ledger
    with pytest.raises(ConfigurationError, match=r"^ledger: expected a Ledger, not 5"):
        LunarCostCallback(5)
    with pytest.raises(ConfigurationError, match=r"^ledger: "), lunar_cost(ledger=5):
        pass
    with pytest.raises(ConfigurationError, match=r"^tags: "), lunar_cost(tags=5):
        pass
