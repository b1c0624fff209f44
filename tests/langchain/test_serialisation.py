"""Models that travel: dumped and loaded, pickled and copied; what is secret stays at home."""

from __future__ import annotations

import importlib
import pickle
from copy import copy, deepcopy

import httpx
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.load import dumpd, dumps, load
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.tracers.base import BaseTracer

import lunar_core
from langchain_lunar import ChatLunar, LunarLLM, LunarRouterChain

KEY = "pk_live_4e0b7a2c91d8"
HEADER = "Basic c2VjcmV0"


def keyed(**settings):
    given = {"model": "gpt-4o-mini", "api_key": KEY, "base_url": "https://lunar.example"}
    return ChatLunar(**given | settings)


def loaded(dumped, **options):
    return load(
        dumped, allowed_objects=[ChatLunar], valid_namespaces=["langchain_lunar"], **options
    )


# Dumped and loaded


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model": "router", "models": ["gpt-4o", "gpt-4o-mini"], "cost_weight": 0.3},
        {"timeout": (5, 7), "max_retries": 0, "fallbacks": ["gpt-4o"], "stop": ["END"]},
        {"timeout": lunar_core.Timeout(1, 2, 3, 4), "total_timeout": 9, "sticky": "off"},
        {"model_kwargs": {"a": 1}, "extra_body": {"b": 2}, "logit_bias": {"1": 2.0}},
        {"streaming": True, "stream_usage": False, "langsmith_cost": True},
    ],
    ids=["plain", "routed", "tries", "timeouts", "passed through", "streams"],
)
def test_a_model_that_is_dumped_and_loaded_is_the_same(settings):
    model = keyed(**settings)
    twin = loaded(dumpd(model), secrets_map={"LUNAR_API_KEY": KEY})
    assert twin.model_dump() == model.model_dump()
    assert twin.api_key.get_secret_value() == KEY
    assert twin.model_fields_set >= {"model", "base_url"}


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
def test_it_finds_its_key_in_the_environment_too(monkeypatch):
    dumped = dumpd(keyed())
    monkeypatch.setenv("LUNAR_API_KEY", "pk_environment")
    assert loaded(dumped, secrets_from_env=True).api_key.get_secret_value() == "pk_environment"


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
def test_a_token_is_a_secret_like_the_key():
    dumped = dumpd(ChatLunar(model="m", jwt="ey.token"))
    assert dumped["kwargs"]["jwt"] == {"lc": 1, "type": "secret", "id": ["LUNAR_JWT"]}
    assert (
        loaded(dumped, secrets_map={"LUNAR_JWT": "ey.other"}).jwt.get_secret_value() == "ey.other"
    )


@pytest.mark.parametrize(
    ("cls", "path"),
    [
        (ChatLunar, ["langchain_lunar", "chat_models", "ChatLunar"]),
        (LunarLLM, ["langchain_lunar", "llms", "LunarLLM"]),
        (LunarRouterChain, ["langchain_lunar", "router", "LunarRouterChain"]),
    ],
)
def test_dumps_that_were_stored_load_though_files_move(cls, path):
    assert cls.lc_id() == path
    assert getattr(importlib.import_module(".".join(path[:-1])), path[-1]) is cls


# What is secret

SHOWN = {
    "repr": repr,
    "str": str,
    "dump": dumps,
    "fields": lambda model: str(model.model_dump()) + model.model_dump_json(),
    "identity": lambda model: str(model.asdict()),
    "cache": lambda model: model._get_llm_string(stop=None),
    "client": lambda model: repr(model.clients.sync) + repr(model.clients.asynchronous),
}


@pytest.mark.parametrize("how", SHOWN)
@pytest.mark.parametrize("secret", ["api_key", "jwt"])
def test_no_text_of_a_model_shows_its_key_or_headers(how, secret):
    given = {"model": "m", secret: KEY, "default_headers": {"X-Proxy-Auth": HEADER}}
    text = SHOWN[how](ChatLunar(**given))
    assert KEY not in text
    assert HEADER not in text


class Everything(BaseTracer):
    run_inline = True

    def __init__(self):
        super().__init__()
        self.runs = []

    def _persist_run(self, run):
        self.runs.append(run)


def test_no_trace_shows_the_key_or_headers(chat, way, lunar_sandbox):
    traces = Everything()
    model = chat(default_headers={"X-Proxy-Auth": HEADER})
    way.invoke(model, "hi", config={"callbacks": [traces]})
    way.stream(model, "hi", config={"callbacks": [traces]})
    text = "".join(str(run.model_dump()) for run in traces.runs)
    assert len(traces.runs) == 2
    assert lunar_sandbox.api_key not in text
    assert HEADER not in text


# Pickled and copied


def used(model, way):
    assert way.invoke(model, "Say hello").content == "hello"
    return model


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "copy": copy,
    "deepcopy": deepcopy,
    "model_copy": lambda model: model.model_copy(),
    "deep model_copy": lambda model: model.model_copy(deep=True),
}


@pytest.mark.parametrize("after_use", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_works_and_so_does_the_original(chat, way, how, after_use):
    model = chat(temperature=0.3, stop=["END"], default_headers={"X-Team": "search"})
    if after_use:
        used(model, way)
    twin = COPIES[how](model)
    assert twin.model_dump() == model.model_dump()
    assert twin.default_headers == model.default_headers
    assert twin.model_fields_set == model.model_fields_set
    used(twin, way)
    used(model, way)


def test_a_shallow_copy_shares_the_connections_and_a_deep_one_does_not(chat):
    model = chat()
    client = model.clients.sync
    assert model.model_copy().clients.sync is client
    assert model.model_copy(update={"temperature": 0.5}).clients.sync is client
    for how in ("pickle", "deepcopy", "deep model_copy"):
        assert COPIES[how](model).clients.sync is not client


def test_a_copy_with_other_settings_has_a_client_of_its_own(chat, lunar_sandbox):
    model = chat()
    model.invoke("hi")
    slow = model.model_copy(update={"base_url": "https://lunar.example"})
    assert slow.clients.sync is not model.clients.sync


@pytest.mark.parametrize("name", ["model", "model_name"])
def test_a_copy_may_be_of_another_model_by_either_name(chat, name):
    twin = chat().model_copy(update={name: "gpt-4o"})
    assert twin.model == twin.model_name == "gpt-4o"
    assert twin.invoke("hi").response_metadata["model_name"] == "gpt-4o"


def test_things_that_a_model_is_given_are_shared_by_deep_copies(chat):
    ledger = lunar_core.Ledger()
    with httpx.Client() as own:
        given = {
            "cache": InMemoryCache(),
            "rate_limiter": InMemoryRateLimiter(),
            "http_client": own,
        }
        twin = deepcopy(chat(observers=[ledger], **given))
        assert all(getattr(twin, name) is value for name, value in given.items())
        assert list(twin.observers) == [ledger]


def test_a_pickle_leaves_connections_at_home(chat):
    with httpx.Client() as own:
        assert pickle.loads(pickle.dumps(chat(http_client=own))).http_client is None


def test_a_key_that_was_given_travels_in_a_pickle_and_one_of_the_environment_does_not(monkeypatch):
    assert KEY.encode() in pickle.dumps(keyed())
    monkeypatch.setenv("LUNAR_API_KEY", "pk_environment")
    model = ChatLunar(model="m")
    assert model.clients.sync
    pickled = pickle.dumps(model)
    assert b"pk_environment" not in pickled
    monkeypatch.setenv("LUNAR_API_KEY", "pk_where_it_is_loaded")
    key = pickle.loads(pickled).clients.sync._settings.credential.secret().get_secret_value()
    assert key == "pk_where_it_is_loaded"
