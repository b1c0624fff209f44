"""LunarRouterChain: Lunar chooses, prompt by prompt, and everybody who listens hears which model and why."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.load import dumps
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel

from langchain_lunar import ChatLunar, LunarCostCallbackHandler, LunarRouterChain
from lunar_core import ConfigurationError, LunarError, RoutingDecision
from tests.faults_steps import completion, reply

PAIR = ["gpt-4o", "gpt-4o-mini"]
EASY, HARD = "Say hi", "Prove that there are infinitely many primes"


@pytest.fixture
def chain(lunar_sandbox):
    """Make a chain of the sandbox."""

    def make(**settings):
        given = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url, "max_retries": 0}
        return LunarRouterChain(**{**given, **settings})

    return make


class Heard(BaseCallbackHandler):
    """Keeps what the callbacks of a run are told, in order."""

    run_inline = True

    def __init__(self):
        self.events, self.custom, self.outputs, self.results = [], [], [], []

    def on_chain_start(self, serialized, inputs, *, metadata=None, **kwargs):
        self.events.append("chain_start")
        self.metadata = metadata

    def on_chat_model_start(self, serialized, messages, **kwargs):
        self.events.append("model_start")

    def on_llm_end(self, response, **kwargs):
        self.events.append("model_end")
        self.results.append(response)

    def on_custom_event(self, name, data, **kwargs):
        self.events.append(name)
        self.custom.append(data)

    def on_chain_end(self, outputs, **kwargs):
        self.events.append("chain_end")
        self.outputs.append(outputs)


def sent(sandbox):
    return [(request["path"], json.loads(request["body"])) for request in sandbox.requests()]


def test_the_answer_says_which_model_was_chosen_and_why(chain, way, lunar_sandbox):
    answer = way.invoke(chain(models=PAIR, cost_weight=0.0), HARD)
    route = answer.response_metadata["routing"]
    assert route["selected_model"] == answer.response_metadata["model_name"] in PAIR
    assert {"expected_error", "cluster_id", "reasoning"} <= route.keys()
    ((path, body),) = sent(lunar_sandbox)
    assert (path, body["models"], body["cost_weight"]) == ("/v1/router", PAIR, 0.0)


def test_a_stream_says_the_same_once(chain, way):
    chunks = way.stream(chain(), HARD)
    assert sum("routing" in chunk.response_metadata for chunk in chunks) == 1
    assert sum("total_cost_usd" in chunk.response_metadata for chunk in chunks) == 1
    assert len(chunks) > 2


def test_callbacks_hear_of_the_settings_the_route_the_cost_and_the_message(chain, way):
    heard = Heard()
    answer = way.invoke(chain(models=PAIR), HARD, {"callbacks": [heard]})
    assert heard.events == ["chain_start", "model_start", "model_end", "lunar_routing", "chain_end"]
    assert heard.metadata.get("models") == PAIR or str(PAIR[0]) in str(heard.metadata)
    (decision,) = heard.custom
    assert decision == answer.response_metadata["routing"] == heard.results[0].llm_output["routing"]
    assert heard.results[0].llm_output["total_cost_usd"] > 0
    assert heard.outputs == [answer]


def test_event_streams_carry_the_decision(chain):
    async def events():
        return [event async for event in chain().astream_events(HARD, version="v2")]

    custom = [e for e in asyncio.run(events()) if e["event"] == "on_custom_event"]
    assert [event["name"] for event in custom] == ["lunar_routing"]
    assert custom[0]["data"]["selected_model"]


def test_a_decision_alone_generates_nothing(chain, lunar_sandbox):
    router = chain(models=PAIR)
    decided = router.decide(HARD), asyncio.run(router.adecide(HARD))
    assert all(isinstance(d, RoutingDecision) and d.selected_model in PAIR for d in decided)
    assert lunar_sandbox.billed() == []
    assert all(body["execute"] is False for _, body in sent(lunar_sandbox))


def test_batches_keep_their_order(chain, way):
    answers = way.batch(chain(), [f"Repeat: {n}" for n in range(8)])
    assert [answer.content.strip() for answer in answers] == [str(n) for n in range(8)]


def test_it_stands_in_a_chain(chain, lunar_sandbox):
    prompt = ChatPromptTemplate.from_template("Repeat: {text}")
    whole = prompt | chain() | StrOutputParser()
    cost = LunarCostCallbackHandler()
    assert "".join(whole.stream({"text": "a b c"}, {"callbacks": [cost]})) == "a b c"
    assert cost.total_cost == lunar_sandbox.total_billed() > 0


def test_tools_are_kept_by_deciding_first(chain, way, lunar_sandbox):
    def multiply(a: int, b: int) -> int:
        """Multiply two numbers."""
        return a * b

    answer = way.invoke(chain(models=PAIR).bind_tools([multiply]), "multiply 3 by 4")
    assert answer.tool_calls[0]["args"] == {"a": 3, "b": 4}
    assert answer.response_metadata["routing"]["selected_model"] in PAIR
    assert [path for path, _ in sent(lunar_sandbox)] == ["/v1/router", "/v1/chat/completions"]


def test_structured_output_is_routed_too(chain, way):
    class Colour(BaseModel):
        """A colour."""

        name: str

    found = way.invoke(chain(models=PAIR).with_structured_output(Colour), "The colour is blue")
    assert isinstance(found, Colour)


def test_candidates_are_asked_in_lunars_place(chain, way, lunar_sandbox):
    candidates = {name: FakeListChatModel(responses=[f"I am {name}"]) for name in PAIR}
    answer = way.invoke(chain(candidates=candidates), HARD)
    route = answer.response_metadata["routing"]
    assert answer.content == f"I am {route['selected_model']}"
    assert "total_cost_usd" not in answer.response_metadata
    assert lunar_sandbox.billed() == []
    assert sent(lunar_sandbox)[0][1]["models"] == PAIR


def test_a_router_that_fails_is_told_or_replaced(way, fault_server):
    settings = {"api_key": "pk_live_test", "base_url": fault_server.origin, "max_retries": 0}
    fault_server.decide(
        lambda request: (
            reply(json=completion("Hello"))
            if request.path == "/v1/chat/completions"
            else reply(503, b'{"detail": "router down"}')
        )
    )
    with pytest.raises(LunarError, match="router down"):
        way.invoke(LunarRouterChain(**settings), HARD)
    instead = LunarRouterChain(on_routing_error="fallback", default_model="gpt-4o", **settings)
    answer = way.invoke(instead, HARD)
    assert answer.content == "Hello"
    assert "router down" in str(answer.response_metadata["routing_error"])


def test_settings_that_contradict_each_other_are_refused(chain, lunar_sandbox):
    llm = ChatLunar(model="router", api_key=lunar_sandbox.api_key, base_url=lunar_sandbox.url)
    with pytest.raises(ConfigurationError, match="models"):
        LunarRouterChain(llm, models=PAIR)
    with pytest.raises(ConfigurationError, match="models"):
        chain(models=PAIR[:1])
    with pytest.raises(ConfigurationError, match="candidates"):
        chain(candidates={"gpt-4o": FakeListChatModel(responses=["x"])})
    assert LunarRouterChain(llm).invoke(EASY).response_metadata["routing"]


def test_it_travels_without_its_key_in_sight(chain, lunar_sandbox):
    router = chain(models=PAIR)
    router.invoke(EASY)
    assert lunar_sandbox.api_key not in repr(router) + dumps(router)
    copy = pickle.loads(pickle.dumps(router))
    assert copy.invoke(EASY).response_metadata["routing"]["selected_model"] in PAIR
