"""LunarLLM: text completions, one request per prompt, each with its usage and cost."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import pickle
import threading
import weakref
from decimal import Decimal

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelError
from langchain_core.load import dumps, load
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompt_values import StringPromptValue
from langchain_core.prompts import PromptTemplate

from langchain_lunar import LunarCostCallbackHandler, LunarLLM
from lunar_core import (
    BadRequestError,
    ConfigurationError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from tests.faults_steps import DONE, reply, sse

PROMPTS = [f"Repeat: {n}" for n in range(5)]


class Heard(BaseCallbackHandler):
    """Keeps what callbacks are told of a stream."""

    run_inline = True

    def __init__(self):
        self.tokens, self.result = [], None

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.tokens.append((token, chunk))

    def on_llm_end(self, response, **kwargs):
        self.result = response


@pytest.fixture
def llm(lunar_sandbox):
    """Make a LunarLLM of the sandbox."""

    def make(**settings):
        given = {"model": "gpt-4o-mini", "max_retries": 0}
        given |= {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
        return LunarLLM(**{**given, **settings})

    return make


def bodies(sandbox):
    return [json.loads(request["body"]) for request in sandbox.requests()]


def test_a_prompt_is_answered_with_text(llm, way, lunar_sandbox):
    assert way.invoke(llm(temperature=0.5, max_tokens=9), "Repeat: a b") == "a b"
    sent = {"model": "gpt-4o-mini", "prompt": "Repeat: a b", "temperature": 0.5, "max_tokens": 9}
    assert bodies(lunar_sandbox) == [sent]


def test_it_streams_word_by_word(llm, way):
    pieces = way.stream(llm(), "Repeat: a b c")
    assert len([piece for piece in pieces if piece]) == 3
    assert "".join(pieces) == "a b c"


def test_each_prompt_is_a_request_of_its_own_and_answers_keep_the_order(llm, way, lunar_sandbox):
    assert way.batch(llm(), PROMPTS) == [str(n) for n in range(5)]
    assert sorted(body["prompt"] for body in bodies(lunar_sandbox)) == PROMPTS


def test_usage_and_cost_are_on_each_generation(llm, way, lunar_sandbox):
    result = way.generate(llm(), PROMPTS[:2])
    infos = [generations[0].generation_info for generations in result.generations]
    costs = {bill["total_cost_usd"] for bill in lunar_sandbox.billed()}
    assert {info["total_cost_usd"] for info in infos} == costs
    assert all(info["finish_reason"] == "stop" and info["model_name"] for info in infos)
    assert result.llm_output["token_usage"]["total_tokens"] > 0


def test_the_handler_counts_streams_and_batches(llm, way, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    way.stream(llm(), PROMPTS[0], {"callbacks": [handler]})
    way.batch(llm(), PROMPTS, {"callbacks": [handler]})
    assert (handler.total_cost, len(handler.ledger)) == (lunar_sandbox.total_billed(), 6)


def test_stop_and_keywords_of_a_call_reach_the_wire(llm, way, lunar_sandbox):
    way.invoke(llm(), "Repeat: a b c", stop=["c"], top_p=0.5, seed=7)
    (body,) = bodies(lunar_sandbox)
    assert (body["stop"], body["top_p"], body["seed"]) == (["c"], 0.5, 7)


def test_the_call_wins_over_the_model_and_adds_to_its_extra_body(llm, way, lunar_sandbox):
    model = llm(temperature=0.5, extra_body={"a": 1, "b": 1}, model_kwargs={"top_k": 1})
    told = {"temperature": 0.1, "extra_body": {"b": 2}, "top_k": 2, "stream": True}
    for ask in (way.invoke, way.stream):
        ask(model, "Repeat: a", **told)
    expected = {"temperature": 0.1, "a": 1, "b": 2, "top_k": 2}
    assert all(body.items() >= expected.items() for body in bodies(lunar_sandbox))
    assert [body.get("stream") for body in bodies(lunar_sandbox)] == [None, True]


def test_a_plain_call_is_asked_without_options_of_streams(llm, way, lunar_sandbox):
    asked = {"include_usage": True}
    model = llm(stream_options=asked)
    way.invoke(model, "Repeat: a")
    way.stream(model, "Repeat: a")
    assert [body.get("stream_options") for body in bodies(lunar_sandbox)] == [None, asked]


def test_the_router_is_refused_before_anything_is_sent(llm, way, lunar_sandbox):
    for ask in (way.invoke, way.stream):
        with pytest.raises(ConfigurationError, match="model: the router"):
            ask(llm(model="router"), "Hi")
    assert bodies(lunar_sandbox) == []


def test_errors_are_of_both_kinds(llm, way):
    with pytest.raises(NotFoundError) as missing:
        way.invoke(llm(model="no-such-model"), "Hello")
    assert isinstance(missing.value, ModelError)
    with pytest.raises(ConfigurationError, match="temperature"):
        way.invoke(llm(temperature=9), "Hello")


def test_retries_and_fallbacks_are_the_cores(way, fault_server):
    fault_server.script(
        reply(429, b'{"retry_after": 0}'),
        reply(json={"model": "b", "choices": [{"index": 0, "text": "Hello"}]}),
    )
    settings = {"api_key": "pk_live_test", "base_url": fault_server.origin}
    model = LunarLLM(model="a", max_retries=0, fallbacks=["b"], **settings)
    assert way.invoke(model, "Hi") == "Hello"
    fault_server.script(reply(429, b'{"retry_after": 99}'))
    with pytest.raises(RateLimitError):
        way.invoke(LunarLLM(model="a", **settings), "Hi")


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")  # it is what users have
def test_it_travels_without_its_key_in_sight(llm, lunar_sandbox, monkeypatch):
    model = llm(temperature=0.1)
    model.invoke("Hello")
    assert lunar_sandbox.api_key not in repr(model) + dumps(model) + str(model.model_dump())
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert twin.invoke("Repeat: a") == "a"
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    told = json.loads(dumps(model))
    for allowed in ([LunarLLM], "all"):
        again = load(told, allowed_objects=allowed, valid_namespaces=["langchain_lunar"])
        assert again.invoke("Repeat: a") == "a"


def test_one_model_works_on_several_loops(llm):
    model = llm()
    assert [asyncio.run(model.ainvoke("Repeat: a")) for _ in range(3)] == ["a"] * 3


# What langchain-tests asks of a chat model, asked of a text model


def test_the_environment_is_enough(lunar_sandbox, monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    assert LunarLLM(model="gpt-4o-mini").invoke("Repeat: a") == "a"


def test_traces_are_told_the_standard_parameters(llm):
    model = llm(temperature=0.0, max_tokens=100, stop=["x"], timeout=60, max_retries=2)
    told = {
        "ls_provider": "lunar",
        "ls_model_type": "llm",
        "ls_model_name": "gpt-4o-mini",
        "ls_temperature": 0.0,
        "ls_max_tokens": 100,
    }
    assert model._get_ls_params() == told
    assert model._get_ls_params(model="gpt-4o")["ls_model_name"] == "gpt-4o"


def test_a_call_may_name_another_model(llm, way, lunar_sandbox):
    way.invoke(llm(), "Repeat: a", model="gpt-4o")
    way.stream(llm(), "Repeat: a", model="gpt-4o")
    assert [body["model"] for body in bodies(lunar_sandbox)] == ["gpt-4o"] * 2


@pytest.mark.parametrize(
    "given",
    [
        "Repeat: å, 日本 and 🙂",
        StringPromptValue(text="Repeat: å, 日本 and 🙂"),
        [HumanMessage("Repeat: å, 日本 and 🙂")],
    ],
    ids=["text", "prompt", "messages"],
)
def test_any_input_of_langchains_will_do(llm, way, given):
    assert "å, 日本 and 🙂" in way.invoke(llm(), given)


def test_answers_end_at_a_stop_of_the_constructor(llm, way):
    assert way.invoke(llm(stop=["c"]), "Repeat: a b c d").strip() == "a b"


def test_several_answers_to_a_prompt_are_one_call(llm, way, lunar_sandbox):
    handler = LunarCostCallbackHandler()
    result = way.generate(llm(n=3), ["Repeat: a"], callbacks=[handler])
    assert len(result.generations[0]) == 3
    assert (len(handler.ledger), handler.total_cost) == (1, lunar_sandbox.total_billed())
    assert result.llm_output["total_cost_usd"] == float(handler.total_cost)


def test_of_several_answers_the_first_tells_what_they_cost(llm, way, lunar_sandbox):
    first, second = way.generate(llm(n=2), ["Repeat: a"]).generations[0]
    assert first.generation_info["total_cost_usd"] == lunar_sandbox.billed()[0]["total_cost_usd"]
    assert not {"total_cost_usd", "token_usage"} & second.generation_info.keys()


def test_tokens_are_reported_once_as_they_come_and_their_cost_at_the_end(llm, way):
    heard = Heard()
    pieces = way.stream(llm(), "Repeat: a b c", {"callbacks": [heard]})
    assert [token for token, _ in heard.tokens] == pieces
    infos = [chunk.generation_info for _, chunk in heard.tokens]
    (generation,) = heard.result.generations[0]
    assert infos[0].keys() == {"call_id"}
    assert [info for info in infos[1:-1] if info] == []
    assert generation.generation_info == {**infos[0], **infos[-1]}
    assert generation.text == "a b c"
    assert infos[-1]["token_usage"]["completion_tokens"] == 3
    assert infos[-1]["total_cost_usd"] > 0


def test_leaving_a_stream_ends_the_generation(llm, lunar_sandbox):
    with contextlib.closing(llm().stream("Count to 20000")) as pieces:
        next(pieces)

    async def leave():
        async with contextlib.aclosing(llm().astream("Count to 20000")) as pieces:
            await anext(pieces)

    asyncio.run(leave())
    assert all("aborted" in bill["tags"] for bill in lunar_sandbox.billed(at_least=2))


def test_a_failing_prompt_leaves_the_others_of_its_batch_their_answers(way, fault_server):
    def answer(request):
        if request.json["prompt"] == "bad":
            return reply(400, b'{"detail": "bad prompt"}')
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_cost_usd": 1e-6}
        return reply(json={"choices": [{"index": 0, "text": "ok"}], "usage": usage})

    fault_server.decide(answer)
    handler = LunarCostCallbackHandler()
    model = LunarLLM(model="a", api_key="pk_live_test", base_url=fault_server.origin)
    prompts, config = ["good", "bad", "good"], {"callbacks": [handler]}
    first, failed, last = way.batch(model, prompts, config, return_exceptions=True)
    assert (first, type(failed).__name__, last) == ("ok", "BadRequestError", "ok")
    assert (handler.total_cost, handler.unpriced) == (Decimal("0.000002"), 0)
    with pytest.raises(BadRequestError):
        way.generate(model, prompts)
    model.close()  # LangChain keeps failures, and with them the model, until a collection


def test_a_batch_asks_side_by_side(llm):
    """Each request waits until all of them have begun."""
    together = threading.Barrier(3)

    class Meet:
        def before(self, call):
            together.wait(timeout=30)

        def after(self, outcome):
            pass

    model = llm(observers=[Meet()])
    assert model.batch(PROMPTS[:3], {"max_concurrency": 3}) == ["0", "1", "2"]
    assert len(model.generate(PROMPTS[:3]).generations) == 3


def test_an_answer_without_its_cost_says_nothing_of_it(way, fault_server):
    fault_server.decide(lambda request: reply(json={"choices": [{"index": 0, "text": "ok"}]}))
    handler = LunarCostCallbackHandler()
    model = LunarLLM(model="a", api_key="pk_live_test", base_url=fault_server.origin)
    result = way.generate(model, ["Hello"], callbacks=[handler])
    assert "total_cost_usd" not in {**result.llm_output, **result.generations[0][0].generation_info}
    assert (handler.unpriced, handler.total_tokens) == (1, 0)


def test_answers_can_be_kept_in_langchains_cache(llm, way, lunar_sandbox):
    cache = InMemoryCache()
    for model in (llm(cache=cache), llm(cache=cache, temperature=0.1)):
        assert [way.invoke(model, "Repeat: a") for _ in range(3)] == ["a"] * 3
    assert len(lunar_sandbox.billed()) == 2


def test_that_cache_tells_calls_with_other_keywords_apart(llm, way, lunar_sandbox):
    model = llm(cache=InMemoryCache())
    asked = [{}, {"temperature": 0.1}, {"model": "gpt-4o"}, {"stop": ["b"]}, {"seed": 1}] * 2
    answers = [way.invoke(model, "Repeat: a b", **keywords) for keywords in asked]
    assert answers == ["a b", "a b", "a b", "a ", "a b"] * 2
    assert len(lunar_sandbox.billed()) == 5


def test_that_cache_tells_models_with_other_stops_apart(llm, way):
    cache = InMemoryCache()
    models = [llm(cache=cache), llm(cache=cache, stop="b"), llm(cache=cache, stop=["c"])]
    assert [way.invoke(model, "Repeat: a b c") for model in models] == ["a b c", "a ", "a b "]


def test_what_only_chat_models_can_is_not_sent(llm, lunar_sandbox):
    with pytest.warns(UserWarning, match=r"streaming|rate_limiter"):
        model = llm(streaming=True, rate_limiter=object())
    assert model.invoke("Repeat: a") == "a"
    assert bodies(lunar_sandbox)[0].keys() == {"model", "prompt"}


def test_langchains_fallbacks_and_chains_take_it(llm, way):
    safe = llm(model="gpt-4o!503").with_fallbacks([llm()])
    chain = PromptTemplate.from_template("Repeat: {text}") | safe | StrOutputParser()
    assert way.invoke(chain, {"text": "a b"}) == "a b"
    assert "".join(way.stream(chain, {"text": "a b"})) == "a b"


def test_tokens_are_counted_offline(llm):
    assert 3 <= llm().get_num_tokens("How long is this text?") <= 9
    assert llm(custom_get_token_ids=lambda text: [1, 2]).get_num_tokens("any") == 2


def test_a_failed_call_leaves_nothing_for_the_collector(llm, no_collector):
    """A cycle would keep the connections, and what was asked, until some later collection."""

    def fail():
        failing = llm(model="gpt-4o!503")
        with contextlib.suppress(InternalServerError):
            failing.generate(PROMPTS)
        return weakref.ref(failing.clients.sync)

    assert fail()() is None


def test_of_choices_out_of_order_a_stream_tells_the_first(way, fault_server):
    choices = [{"index": 1, "text": "second"}, {"index": 0, "text": "first"}]
    fault_server.script(sse({"choices": choices}, DONE))
    model = LunarLLM(model="gpt-4o-mini", api_key="pk_x", base_url=fault_server.origin)
    assert "".join(way.stream(model, "hi")) == "first"
