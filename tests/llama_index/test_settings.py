"""What a LunarLLM is told, shows, hides and carries along."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import subprocess
import sys
import threading
import typing

import httpx
import httpx2
import pytest
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload, LlamaDebugHandler
from llama_index.core.instrumentation.events.llm import LLMChatStartEvent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from pydantic import BaseModel

import llama_index_lunar
from llama_index_lunar import LunarCostCallback, LunarLLM
from lunar_core import ConfigurationError, Ledger, Timeout, tags
from tests.llama_index.support import ENDPOINTS, WEATHER, ask, request_body, text_of, user

SECRETS = {
    "api_key": "pk_live_hidden_1",
    "default_headers": {"x-tenant": "hidden_2"},
    "additional_kwargs": {"extra_headers": {"x-token": "hidden_3"}, "seed": 1},
}


def test_it_is_a_function_calling_llm():
    assert {BaseLLM.__name__, FunctionCallingLLM.__name__} <= {c.__name__ for c in LunarLLM.mro()}
    assert LunarLLM.class_name() == "LunarLLM"


def test_metadata_is_what_llamaindex_goes_by():
    metadata = LunarLLM("gpt-4o-mini", api_key="k", max_tokens=300).metadata
    assert metadata.model_name == "gpt-4o-mini"
    assert metadata.num_output == 300
    assert metadata.is_chat_model
    assert metadata.is_function_calling_model
    assert LunarLLM("gpt-4o-mini", api_key="k").metadata.num_output == -1


@pytest.mark.parametrize(
    ("told", "window"),
    [
        ({"model": "gpt-4o-mini"}, 128_000),
        ({"model": "openai/gpt-4o-mini"}, 128_000),
        ({"model": "gpt-3.5-turbo"}, 16_385),
        ({"model": "azure/gpt-4.1-mini-2025-04-14"}, 1_047_576),
        ({"model": "nobody-knows-it"}, 128_000),
        ({"model": "gpt-4o-mini", "context_window": 5_000}, 5_000),
        ({"model": "router", "models": ["gpt-4o", "mistral-small-latest"]}, 32_000),
        ({"model": "router", "models": ["nobody-knows-it", "gpt-4.1"]}, 128_000),
        # All of the reference's candidates: the smallest is gpt-3.5-turbo.
        ({"model": "router"}, 16_385),
    ],
)
def test_the_context_window_is_that_of_the_smallest_model_that_may_answer(told, window):
    assert LunarLLM(api_key="k", **told).metadata.context_window == window


def test_an_unknown_argument_is_named_and_told_where_to_go():
    with pytest.raises(ConfigurationError, match=r"temprature.*additional_kwargs"):
        LunarLLM("gpt-4o", api_key="k", temprature=0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": 2.5},
        {"temperature": "hot"},
        {"max_tokens": 0},
        {"top_p": 1.5},
        {"n": 0},
        {"presence_penalty": 3},
        {"max_retries": -1},
        {"sticky": "x"},
        {"replay_reasoning": "x"},
        {"cost_weight": -1},
        {"models": ["gpt-4o"]},
        {"top_logprobs": 21},
        {"context_window": 0},
        {"tags": "x"},
        {"additional_kwargs": 5},
    ],
    ids=",".join,
)
def test_values_that_cannot_work_are_refused_at_once_and_named(wrong):
    (name,) = wrong
    with pytest.raises(ConfigurationError, match=name):
        LunarLLM("gpt-4o", api_key="k", **wrong)


NO_PARAMETERS = ["messages", "prompt", "execute", "api_key", "jwt", "base_url", "observers"]


@pytest.mark.parametrize("place", ["additional_kwargs", "extra_body"])
@pytest.mark.parametrize("name", NO_PARAMETERS)
def test_what_is_no_parameter_is_no_field(place, name):
    with pytest.raises(ConfigurationError, match=f"{place}: {name}: ") as caught:
        LunarLLM("gpt-4o", api_key="k", **{place: {name: "pk_secret"}})
    assert "pk_secret" not in str(caught.value)


async def start(llm, endpoint, keywords):
    return await getattr(llm, endpoint)("x" if "complete" in endpoint else user("x"), **keywords)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("is_inside", [False, True], ids=["keyword", "extra_body"])
@pytest.mark.parametrize("name", NO_PARAMETERS)
async def test_so_it_is_of_a_call_before_anything_is_sent(
    name, is_inside, endpoint, llm_on, lunar_sandbox
):
    keywords = {name: "pk_secret"}
    # Of complete(), "prompt" is a parameter: there Python itself refuses.
    with pytest.raises((ConfigurationError, TypeError), match=name) as caught:
        await start(
            llm_on(lunar_sandbox), endpoint, {"extra_body": keywords} if is_inside else keywords
        )
    assert "pk_secret" not in str(caught.value)
    assert lunar_sandbox.requests() == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_options_of_streams_are_not_sent_with_plain_calls(endpoint, llm_on, lunar_sandbox):
    options = {"stream_options": {"include_usage": True}}
    llm = llm_on(lunar_sandbox, extra_body=options)
    await ask(llm, endpoint, extra_body=options)
    body = request_body(lunar_sandbox.requests()[0])
    assert ("stream_options" in body) is ("stream" in endpoint)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_only_the_endpoint_says_whether_an_answer_streams(
    stream, endpoint, llm_on, lunar_sandbox
):
    fields = {"additional_kwargs": {"stream": stream}, "extra_body": {"stream": stream}}
    llm = llm_on(lunar_sandbox, **fields)
    last = (await ask(llm, endpoint, stream=stream))[-1]
    assert text_of(last) == "hello there"
    body = request_body(lunar_sandbox.requests()[0])
    assert body.get("stream", False) is ("stream" in endpoint)


def test_no_error_of_construction_shows_the_key():
    with pytest.raises(ConfigurationError) as caught:
        LunarLLM(
            "gpt-4o", api_key="pk_test_hidden", sticky="pk_test_hidden", models="pk_test_hidden"
        )
    assert "pk_test_hidden" not in str(caught.value)


def test_every_field_of_every_exported_model_is_described():
    exported = [getattr(llama_index_lunar, name) for name in llama_index_lunar.__all__]
    models = [each for each in exported if inspect.isclass(each) and issubclass(each, BaseModel)]
    assert LunarLLM in models
    undescribed = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert undescribed == []
    assert LunarLLM.model_json_schema()["properties"]["cost_weight"]["description"]


def test_public_methods_annotations_resolve_at_run_time():
    classes = [getattr(llama_index_lunar, name) for name in llama_index_lunar.__all__]
    for cls in filter(inspect.isclass, classes):
        for name, method in vars(cls).items():
            is_ours = getattr(method, "__module__", "").startswith("llama_index_lunar")
            if inspect.isfunction(method) and is_ours and not name.startswith("_"):
                assert typing.get_type_hints(method) is not None


def test_a_weight_may_be_a_function_that_is_asked_for_each_call(llm_on, lunar_sandbox):
    weights = iter([0.0, 0.5])
    llm = llm_on(lunar_sandbox, model="router", cost_weight=lambda: next(weights))
    llm.complete("a")
    llm.complete("b")
    bodies = [request_body(request) for request in lunar_sandbox.requests()]
    assert [body["cost_weight"] for body in bodies if "cost_weight" in body] == [0.0, 0.5]
    assert llm.to_dict()["cost_weight"] is None
    assert "cost_weight" not in llm.to_payload()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_llms_own_tags_are_on_its_calls_unless_a_block_says_otherwise(
    endpoint, llm_on, lunar_sandbox
):
    ledger = Ledger()
    llm = llm_on(lunar_sandbox, tags={"app": "chat", "user": "u1"}, observers=[ledger])
    with tags(user="u2"):
        await ask(llm, endpoint)
    (entry,) = ledger
    assert entry.tags == {"app": "chat", "user": "u2"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({}, "LUNAR_API_KEY"),
        ({"api_key": "k", "jwt": "j"}, "jwt"),
        ({"api_key": "k", "api_base": "http://example.com"}, "base_url"),
        ({"api_key": "k", "timeout": "soon"}, "timeout"),
        ({"api_key": "k", "observers": Ledger()}, "observers"),
        ({"api_key": "k", "observers": [print]}, "observers"),
        ({"api_key": "k", "default_headers": {"x-api-key": "other"}}, "x-api-key"),
        ({"api_key": "k", "is_chat_model": False, "model": "router"}, "is_chat_model"),
    ],
)
def test_settings_that_cannot_work_are_named_at_once(wrong, named):
    with pytest.raises(ConfigurationError, match=named):
        LunarLLM(**{"model": "gpt-4o", **wrong})


def test_key_and_address_come_from_the_environment(monkeypatch, lunar_sandbox):
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    llm = LunarLLM("gpt-4o-mini")
    monkeypatch.delenv("LUNAR_API_KEY")  # read once, at construction
    assert llm.complete("Say hello").text == "hello"


@pytest.mark.parametrize("credential", ["api_key", "jwt"])
def test_a_key_may_be_a_function(credential, llm_on, faults):
    from tests.faults_steps import completion, reply

    faults.always(reply(json=completion()))
    told = {"api_key": None, credential: lambda: "fresh"}
    llm_on(faults, **told).complete("hi")
    header = {"api_key": "x-api-key", "jwt": "authorization"}[credential]
    assert faults.requests[0].header(header) in ("fresh", "Bearer fresh")


def shown(llm: LunarLLM) -> str:
    """All that an LLM says of itself."""
    return "\n".join(
        [
            repr(llm),
            str(llm),
            json.dumps(llm.to_dict()),
            llm.to_json(),
            str(llm.model_dump()),
            llm.model_dump_json(),
            str(llm.dict()),
            str(llm.to_payload()),
            repr(llm.metadata),
        ]
    )


def test_key_and_headers_are_shown_nowhere(caplog):
    llm = LunarLLM("gpt-4o", **SECRETS)
    assert "hidden" not in shown(llm)
    assert "hidden" not in caplog.text
    with pytest.raises(ConfigurationError) as refused:
        LunarLLM("gpt-4o", **SECRETS, unknown=1)
    assert "hidden" not in str(refused.value)


async def test_key_and_headers_are_in_no_event_and_no_payload(
    llm_on, lunar_sandbox, recorder, caplog
):
    caplog.set_level(logging.DEBUG)
    debug = LlamaDebugHandler(print_trace_on_end=False)
    secrets = {**SECRETS, "api_key": "pk_test_hidden_1"}
    llm = llm_on(lunar_sandbox, **secrets, callback_manager=CallbackManager([debug]))
    for endpoint in ("chat", "stream_chat", "acomplete"):
        await ask(llm, endpoint)
    events = "\n".join(str(event.model_dump()) for event in recorder.events)
    payloads = [e.payload for pair in debug.get_event_pairs(CBEventType.LLM) for e in pair]
    assert "gpt-4o-mini" in recorder.of(LLMChatStartEvent)[0].model_dict.values()
    assert any(EventPayload.SERIALIZED in payload for payload in payloads)
    assert "hidden" not in events + str(payloads) + caplog.text
    request = lunar_sandbox.requests()[0]
    assert request["headers"]["x-token"] == "hidden_3"  # but there they are
    assert "extra_headers" not in request_body(request)


def test_from_dict_makes_the_same_llm_and_needs_the_key_from_elsewhere(monkeypatch):
    llm = LunarLLM(
        "router", api_key="k", models=["gpt-4o", "gpt-4o-mini"], cost_weight=0.3, stop=["x"]
    )
    stored = json.loads(llm.to_json())
    with pytest.raises(ConfigurationError, match="LUNAR_API_KEY"):
        LunarLLM.from_dict(stored)
    assert LunarLLM.from_dict(stored, api_key="k").to_dict() == llm.to_dict()
    monkeypatch.setenv("LUNAR_API_KEY", "k")
    assert LunarLLM.from_json(llm.to_json()).to_dict() == llm.to_dict()


@pytest.mark.parametrize("timeout", [None, 5, 2.5, (5, 60), Timeout(1, 2, 3, 4), httpx.Timeout(7)])
def test_every_form_of_timeout_can_be_stored(timeout):
    llm = LunarLLM("gpt-4o", api_key="k", timeout=timeout)
    again = LunarLLM.from_json(llm.to_json(), api_key="k")
    assert again._clients.settings.timeout == llm._clients.settings.timeout


def test_the_address_has_two_names():
    llm = LunarLLM("gpt-4o", api_key="k", base_url="https://example.com")
    assert llm.api_base == "https://example.com"


@pytest.mark.parametrize("used", [False, True], ids=["before use", "after use"])
@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda llm: pickle.loads(pickle.dumps(llm)), LunarLLM.model_copy],
    ids=["copy", "deepcopy", "pickle", "model_copy"],
)
async def test_copies_work(copied, used, llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, additional_kwargs={"seed": 1})
    if used:
        await ask(llm, "complete")
        await ask(llm, "astream_chat")
    twin = copied(llm)
    assert twin.to_dict() == llm.to_dict()
    for endpoint in ("chat", "achat", "astream_chat"):
        assert (await ask(twin, endpoint))[-1].message.content == "hello there"
    await twin.aclose()


def test_a_key_from_the_environment_is_in_no_pickle(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_from_the_environment")
    stored = pickle.dumps(LunarLLM("gpt-4o"))
    assert b"pk_live_from_the_environment" not in stored
    monkeypatch.delenv("LUNAR_API_KEY")
    llm = pickle.loads(stored)  # the key is only missed when a call needs it
    with pytest.raises(ConfigurationError, match="LUNAR_API_KEY"):
        llm.complete("hi")
    assert b"pk_explicit" in pickle.dumps(LunarLLM("gpt-4o", api_key="pk_explicit"))


def test_what_cannot_be_pickled_is_left_behind(llm_on, lunar_sandbox, caplog):
    unpicklable = CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])
    unpicklable.handlers[0].lock = threading.Lock()
    llm = llm_on(lunar_sandbox, callback_manager=unpicklable)
    twin = pickle.loads(pickle.dumps(llm))
    assert twin.complete("Say hello").text == "hello"
    assert "callback_manager" in caplog.text
    assert twin.metadata == llm.metadata


def test_copies_share_observers_and_settings_but_no_connections(llm_on, lunar_sandbox):
    ledger = Ledger()
    llm = llm_on(lunar_sandbox, observers=[ledger])
    twin = copy.deepcopy(llm)
    assert twin.observers == (ledger,)
    llm.close()
    assert twin.complete("Say hello").text == "hello"
    assert len(ledger) == 1
    twin.close()


class Limiter:
    """One that cannot be copied, as LlamaIndex's own."""

    def __init__(self):
        self.lock = threading.Lock()

    def acquire(self, num_tokens=0):
        """Nobody waits."""

    async def async_acquire(self, num_tokens=0):
        """Nobody waits."""


def test_a_deep_copy_books_on_the_same_ledgers(llm_on, lunar_sandbox):
    costs = LunarCostCallback()
    known = "rate_limiter" in BaseLLM.model_fields  # older ones have none
    told = {"rate_limiter": Limiter()} if known else {}
    llm = llm_on(lunar_sandbox, callback_manager=CallbackManager([costs]), **told)
    twin = copy.deepcopy(llm)
    assert twin.complete("Say hello").text == "hello"
    assert costs.total_cost == lunar_sandbox.total_billed() > 0
    assert getattr(twin, "rate_limiter", None) is told.get("rate_limiter")
    twin.close()


def test_a_field_that_is_changed_later_counts(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, api_base="http://127.0.0.1:9", max_retries=0)
    llm.model, llm.api_base = "gpt-4o", lunar_sandbox.url
    assert llm.complete("Say hello").raw["model"] == "gpt-4o"
    again = llm.model_copy(update={"default_headers": {"x-sandbox-usage": "none"}})
    assert "usage" not in list(again.stream_complete("Say hello"))[-1].raw


def test_closed_connections_are_not_opened_again(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox)
    llm.complete("Say hello")
    llm.close()
    with pytest.raises(Exception, match="closed"):
        llm.complete("Say hello")


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_an_http_client_of_the_callers_is_used_and_left_open(library, llm_on, lunar_sandbox):
    seen = []
    with library.Client(event_hooks={"request": [seen.append]}) as client:
        llm = llm_on(lunar_sandbox, http_client=client)
        assert llm.complete("Say hello").text == "hello"
        assert list(llm.stream_chat(user("Say hello")))[-1].message.content == "hello"
        llm.close()
        assert len(seen) == 2
        assert not client.is_closed


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_an_async_http_client_of_the_callers_is_used(library, llm_on, lunar_sandbox):
    seen = []

    async def see(request):
        seen.append(request)

    async with library.AsyncClient(event_hooks={"request": [see]}) as client:
        llm = llm_on(lunar_sandbox, async_http_client=client)
        assert (await llm.acomplete("Say hello")).text == "hello"
        assert len(seen) == 1


def test_its_schema_can_be_written_down():
    assert "class_name" in LunarLLM.model_json_schema()["properties"]


def test_without_llamaindex_the_error_names_the_extra():
    code = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'llama_index':\n"
        "            raise ModuleNotFoundError('blocked', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "import llama_index_lunar\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "ModuleNotFoundError: llama_index_lunar needs llama-index-core: pip install" in done.stderr
    )


def test_messages_of_answers_can_be_stored(llm):
    answer = llm.chat_with_tools([WEATHER], "What is the weather in Paris?")
    for message in (answer.message, llm.chat(user("Say hi")).message):
        stored = message.model_dump_json()
        assert type(message).model_validate_json(stored) == message


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_extra_body_that_is_no_mapping_is_refused_by_name(endpoint, llm_on, lunar_sandbox):
    with pytest.raises(ConfigurationError, match=r"^extra_body: "):
        await start(llm_on(lunar_sandbox), endpoint, {"extra_body": "seed"})
    assert lunar_sandbox.requests() == []
