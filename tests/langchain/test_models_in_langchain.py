"""What LangChain does with a ChatLunar: copies, caches, tracers, token counts, profiles, imports."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, trim_messages
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField

import lunar_core
from langchain_lunar import ChatLunar
from langchain_lunar.profiles import KEYS
from lunar_core.wire.model_facts import ROUTED
from tests.faults_steps import completion, reply

# What LangChain does with a model


def test_batches_ask_at_the_same_time(scripted, fault_server, way):
    together = threading.Barrier(3)

    def when_all_are_here(connection):
        together.wait(timeout=10)

    fault_server.always([when_all_are_here, reply(json=completion("hi"))])
    answers = way.batch(scripted(), ["a", "b", "c"])
    assert [answer.content for answer in answers] == ["hi"] * 3


def test_one_model_serves_many_event_loops(chat):
    model = chat()
    answers = [asyncio.run(model.ainvoke("Say hello")) for _ in range(4)]
    assert [answer.content for answer in answers] == ["hello"] * 4


async def test_async_calls_use_no_threads(chat):
    model, before = chat(), threading.active_count()
    await model.ainvoke("hi")
    assert {threading.active_count() async for _ in model.astream("hi")} == {before}


def test_several_answers_to_one_prompt_are_all_returned(chat, way):
    result = way.generate(chat(n=2), [[HumanMessage("hi")]])
    assert len(result.generations[0]) == 2
    assert way.invoke(chat(n=2), "hi").content == result.generations[0][0].text


def test_the_tokens_of_a_batch_are_added_up(chat, way):
    result = way.generate(chat(), [[HumanMessage("Say hello")]] * 3)
    assert result.llm_output["token_usage"]["total_tokens"] == 18


def test_a_cache_answers_the_second_time(chat, way, lunar_sandbox):
    model = chat(cache=InMemoryCache())
    first, second = way.invoke(model, "hi"), way.invoke(model, "hi")
    assert second.content == first.content
    assert second.response_metadata["call_id"] == first.response_metadata["call_id"]
    assert second.usage_metadata["total_cost"] == 0
    assert len(lunar_sandbox.requests()) == 1


def test_a_cache_tells_another_model_apart(chat, lunar_sandbox):
    model = chat(cache=InMemoryCache())
    model.invoke("hi")
    other = model.model_copy(update={"model": "gpt-4o"}).invoke("hi")
    model.model = "gpt-4.1"
    changed = model.invoke("hi")
    assert other.response_metadata["model_name"] == "gpt-4o"
    assert changed.response_metadata["model_name"] == "gpt-4.1"
    assert len(lunar_sandbox.requests()) == 3


def test_a_rate_limiter_is_asked_before_each_request(chat, way):
    class Limiter(InMemoryRateLimiter):
        acquired = 0

        def acquire(self, *, blocking=True):
            self.acquired += 1
            return True

        async def aacquire(self, *, blocking=True):
            return self.acquire()

    limiter = Limiter()
    model = chat(rate_limiter=limiter)
    way.invoke(model, "hi")
    way.stream(model, "hi")
    assert limiter.acquired == 2


def test_fields_can_be_chosen_at_run_time(chat, lunar_sandbox):
    field = ConfigurableField("model")
    model = chat(temperature=0.5).configurable_fields(model=field)
    model.invoke("hi", config={"configurable": {"model": "gpt-4o"}})
    model.invoke("hi")
    assert [request["model"] for request in lunar_sandbox.requests()] == ["gpt-4o", "gpt-4o-mini"]


def test_a_model_chosen_at_run_time_still_streams(chat):
    field = ConfigurableField("model")
    chosen = chat().configurable_fields(model_name=field)
    chunks = list(chosen.stream("hi there", config={"configurable": {"model": "gpt-4o"}}))
    assert len(chunks) > 3


def test_a_call_that_names_a_model_is_traced_under_that_name(chat):
    model = chat(temperature=0.5, max_tokens=9, stop="END")
    assert model._get_ls_params(model="gpt-4o", temperature=0.1) == {
        "ls_provider": "lunar",
        "ls_model_name": "gpt-4o",
        "ls_model_type": "chat",
        "ls_temperature": 0.1,
        "ls_max_tokens": 9,
        "ls_stop": ["END"],
    }


def test_traces_say_which_versions_were_at_work(chat):
    versions = chat().metadata["lc_versions"]
    assert versions["lunar-integrations"] == lunar_core.__version__
    assert "langchain-core" in versions


def test_observers_are_told_and_may_refuse(chat, way):
    ledger = lunar_core.Ledger()
    way.invoke(chat(observers=[ledger]), "Say hello")
    way.stream(chat(observers=[ledger]), "Say hello")
    assert ledger.total_tokens == 12


# Tokens and profiles, offline


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("The quick brown fox jumps over the lazy dog.", 9, 12),
        ('{"a": [1, 2, 3], "b": {"c": null}}', 18, 30),
        ("东京是日本的首都也是世界上最大的城市之一。", 12, 25),
        ("Übermäßig lange Straßennamen überfordern Zustelldienste.", 10, 20),
    ],
    ids=["nothing", "prose", "JSON", "Chinese", "German"],
)
def test_tokens_are_estimated_without_a_tokenizer(chat, text, least, most):
    assert least <= chat().get_num_tokens(text) <= most


def test_ones_own_tokenizer_counts_instead(chat):
    model = chat(custom_get_token_ids=lambda text: list(range(len(text))))
    assert model.get_num_tokens("hello") == 5
    assert model.get_num_tokens_from_messages([HumanMessage("hello")]) == 9


def test_a_conversation_is_trimmed_offline(chat):
    history = [SystemMessage("Be brief.")]
    for number in range(20):
        history += [HumanMessage(f"Question {number}: why?"), AIMessage("Because. " * 20)]
    kept = trim_messages(
        history, max_tokens=200, token_counter=chat(), include_system=True, start_on="human"
    )
    assert kept[0] == history[0]
    assert 3 <= len(kept) < len(history)
    assert chat().get_num_tokens_from_messages(kept) <= 200


def test_images_and_tools_count_too(chat):
    picture = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    low = {"type": "image_url", "image_url": {**picture["image_url"], "detail": "low"}}

    def add(a: int, b: int) -> int:
        """Add two numbers."""

    model, text = chat(), HumanMessage("hi")
    plain = model.get_num_tokens_from_messages([text])
    assert model.get_num_tokens_from_messages([HumanMessage([picture])]) > 700
    assert model.get_num_tokens_from_messages([HumanMessage([low])]) < 100
    assert model.get_num_tokens_from_messages([text], tools=[add]) > plain + 20


@pytest.mark.parametrize("name", ROUTED)
def test_each_model_that_the_router_knows_has_a_profile(chat, name):
    for model in (chat(name), chat(f"somebody/{name}")):
        assert model.profile["max_input_tokens"] > 16_000
        assert model.profile["tool_calling"]


def test_a_version_of_a_model_has_its_profile(chat):
    assert chat("gpt-4o-mini-2024-07-18").profile["max_output_tokens"] == 16_384
    assert chat("gpt-4-turbo-2024-04-09").profile["structured_output"] is False


def test_a_routed_model_promises_what_every_candidate_keeps(chat):
    assert chat("router").profile["max_input_tokens"] == 16_385
    assert chat("router").profile["image_inputs"] is False
    assert chat("router", models=["gpt-4o", "gpt-4o-mini"]).profile["image_inputs"] is True


def test_of_an_unknown_model_nothing_is_promised(chat):
    assert chat("someone-elses").profile is None
    assert chat("router", models=["gpt-4o", "someone-elses"]).profile is None


def test_ones_own_profile_is_kept_and_checked(chat):
    assert chat(profile={"max_input_tokens": 5}).profile == {"max_input_tokens": 5}
    with pytest.warns(UserWarning, match="max_inputs"):
        chat(profile={"max_inputs": 5})


def test_langchain_knows_every_key_of_our_profiles():
    assert set(ModelProfile.__annotations__) >= KEYS


# Light

IMPORT = """
import json, sys
import langchain_lunar
langchain_lunar.ChatLunar
print(json.dumps(sorted(sys.modules)))
"""


def test_the_network_is_imported_with_the_first_call():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(json.loads(done.stdout))
    assert "lunar_core.client.requests" not in loaded
    assert not {"langchain", "langgraph", "llama_index", "openai"} & loaded


def test_making_a_model_takes_no_time():
    started = time.process_time()
    for _ in range(100):
        ChatLunar(model="m", api_key="pk_test", base_url="https://lunar.example")
    assert (time.process_time() - started) / 100 < 0.001
