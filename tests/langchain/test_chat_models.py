"""ChatLunar: what it is told, what it sends, what it says of an answer."""

from __future__ import annotations

import threading
import warnings

import httpx
import httpx2
import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from pydantic import SecretStr, ValidationError

import lunar_core
from langchain_lunar import ChatLunar
from lunar_core import ConfigurationError
from tests.faults_steps import completion, reply
from tests.langchain.sent_fields import SENT

# What an answer says of itself

COSTS = {"total_cost_usd", "input_cost_usd", "output_cost_usd", "cache_input_cost_usd"}
CALL = {"latency_ms", "ttft_ms", "model_name", "requested_model", "model_provider"}
ANSWER = {"finish_reason", "id", "call_id"}


def test_an_answer_says_what_it_cost_and_who_gave_it(chat, way, lunar_sandbox):
    answer = way.invoke(chat(), "Say hello")
    metadata = answer.response_metadata
    (bill,) = lunar_sandbox.billed()
    assert answer.content == "hello"
    assert metadata.keys() == COSTS | CALL | ANSWER | {"token_usage"}
    assert metadata["total_cost_usd"] == bill["total_cost_usd"]
    assert metadata["model_name"] == metadata["requested_model"] == "gpt-4o-mini"
    assert metadata["model_provider"] == "lunar"
    assert metadata["finish_reason"] == "stop"
    assert answer.usage_metadata == {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6}


def test_what_the_service_did_not_state_is_absent(scripted, fault_server, way):
    fault_server.script(reply(json=completion("hi", usage=None)))
    answer = way.invoke(scripted(), "hi")
    assert not COSTS & answer.response_metadata.keys()
    assert answer.usage_metadata is None


def test_what_the_service_says_beyond_the_contract_is_kept(scripted, fault_server, way):
    beyond = {"system_fingerprint": "fp_1", "citations": ["https://a.example"]}
    fault_server.script(reply(json={**completion("hi"), **beyond, "service_tier": None}))
    metadata = way.invoke(scripted(), "hi").response_metadata
    assert metadata.items() >= beyond.items()
    assert "service_tier" not in metadata


def test_who_served_the_answer_is_told(chat):
    assert chat("openai/gpt-4o-mini").invoke("hi").response_metadata["provider"] == "openai"


def test_attempts_are_told_when_there_was_more_than_one(chat):
    answer = chat("fault-503", fallbacks=["gpt-4o"]).invoke("hi")
    asked = [attempt["model"] for attempt in answer.response_metadata["attempts"]]
    assert asked == ["fault-503", "gpt-4o"]
    assert answer.response_metadata["model_name"] == "gpt-4o"
    assert answer.response_metadata["requested_model"] == "fault-503"


def test_log_probabilities_are_told(chat, way):
    answer = way.invoke(chat(logprobs=True, top_logprobs=2), "Say hello")
    assert answer.response_metadata["logprobs"]["content"][0]["token"] == "hello"


def test_the_end_of_a_run_tells_tokens_cost_and_route_and_nothing_that_does_not_add_up(chat, told):
    chat("router").invoke("hi", config={"callbacks": [told]})
    output = told.ended[0].llm_output
    assert all(type(count) is int for count in output["token_usage"].values())
    assert output["token_usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert output["routing"]["selected_model"] == output["model_name"]
    assert output["total_cost_usd"] > 0


def test_langchains_own_counter_counts_every_call(chat, way):
    counter = UsageMetadataCallbackHandler()
    model, config = chat(), {"callbacks": [counter]}
    way.invoke(model, "Say hello", config=config)
    way.invoke(model, "Say hello", config=config)
    way.stream(model, "Say hello", config=config)
    assert counter.usage_metadata["gpt-4o-mini"]["total_tokens"] == 18


def test_tracers_keep_their_key_to_themselves(chat, way):
    answer = way.invoke(chat("router"), "hi")
    assert "lc_gateway_metadata" not in answer.response_metadata


def test_cost_for_langsmith_is_put_where_it_looks_when_asked(chat, way):
    answer = way.invoke(chat(langsmith_cost=True), "hi")
    assert answer.usage_metadata["total_cost"] == answer.response_metadata["total_cost_usd"]


def test_streams_leave_it_out_since_langchain_could_not_add_them_up(chat, way):
    answer = way.streamed(chat(langsmith_cost=True), "hi")
    assert "total_cost" not in answer.usage_metadata
    assert answer.response_metadata["total_cost_usd"] > 0


# What is sent


@pytest.mark.parametrize("name", SENT)
def test_each_field_is_sent_from_the_constructor_and_from_the_call(scripted, fault_server, name):
    fault_server.always(reply(json=completion()))
    scripted(**{name: SENT[name]}).invoke("hi")
    scripted().invoke("hi", **{name: SENT[name]})
    scripted().bind(**{name: SENT[name]}).invoke("hi")
    assert [body.get(name) for body in fault_server.bodies] == [SENT[name]] * 3


def test_what_nobody_set_is_not_sent(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted(stop=[]).invoke("hi")
    (body,) = fault_server.bodies
    assert body.keys() == {"model", "messages"}


def test_the_call_wins_over_the_model(scripted, fault_server, way):
    fault_server.always(reply(json=completion()))
    model = scripted(temperature=0.1, stop=["A"])
    way.invoke(model, "hi", temperature=0.9, stop=["B"], model="gpt-4o")
    way.invoke(model, "hi", stop=[])
    first, second = fault_server.bodies
    assert (first["temperature"], first["stop"], first["model"]) == (0.9, ["B"], "gpt-4o")
    assert "stop" not in second


def test_fields_that_are_not_known_here_go_through(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    model = scripted(model_kwargs={"verbosity": "low"}, extra_body={"a": 1, "b": 1})
    model.invoke("hi", service_tier="flex", extra_body={"b": 2})
    (body,) = fault_server.bodies
    assert (body["verbosity"], body["service_tier"]) == ("low", "flex")
    assert (body["a"], body["b"]) == (1, 2)


def test_headers_of_the_model_and_of_the_call_are_sent(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted(default_headers={"X-Team": "search"}).invoke("hi", extra_headers={"X-Trace": "t1"})
    headers = headers_of(fault_server.requests[0])
    assert (headers["x-team"], headers["x-trace"]) == ("search", "t1")


def headers_of(request):
    return {name.lower(): value for name, value in request.headers}


def test_how_a_call_is_made_can_be_said_for_one_call(scripted, fault_server, way):
    fault_server.always(reply(503))
    with pytest.raises(lunar_core.InternalServerError):
        way.invoke(scripted(max_retries=2), "hi", max_retries=0, fallbacks=["gpt-4o"])
    assert fault_server.models == ["gpt-4o-mini", "gpt-4o"]


def test_a_token_is_sent_instead_of_a_key(scripted, fault_server, monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_environment")
    fault_server.script(reply(json=completion()))
    ChatLunar(model="m", jwt="ey.token", base_url=fault_server.origin).invoke("hi")
    headers = headers_of(fault_server.requests[0])
    assert headers["authorization"] == "Bearer ey.token"
    assert "x-api-key" not in headers


def test_a_key_may_change_from_request_to_request(fault_server):
    fault_server.always(reply(json=completion()))
    keys = iter(["pk_one", "pk_two"])
    model = ChatLunar(model="m", api_key=lambda: next(keys), base_url=fault_server.origin)
    model.invoke("hi")
    model.invoke("hi")
    assert [headers_of(r)["x-api-key"] for r in fault_server.requests] == ["pk_one", "pk_two"]


LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])


@LIBRARIES
def test_a_client_of_ones_own_is_used_and_left_open(chat, library):
    with library.Client() as own:
        model = chat(http_client=own)
        assert model.invoke("Say hello").content == "hello"
        model.close()
        assert not own.is_closed


@LIBRARIES
async def test_an_async_client_of_ones_own_is_used_and_left_open(chat, library):
    async with library.AsyncClient() as own:
        model = chat(http_async_client=own)
        assert (await model.ainvoke("Say hello")).content == "hello"
        await model.aclose()
        assert not own.is_closed


# What it is told


@pytest.mark.parametrize(
    ("theirs", "ours", "value"),
    [
        ("model_name", "model", "gpt-4o"),
        ("openai_api_key", "api_key", SecretStr("pk_other")),
        ("openrouter_api_key", "api_key", SecretStr("pk_other")),
        ("openai_api_base", "base_url", "https://lunar.example"),
        ("openrouter_api_base", "base_url", "https://lunar.example"),
        ("api_base", "base_url", "https://lunar.example"),
        ("extra_headers", "default_headers", {"x-a": "b"}),
        ("request_timeout", "timeout", 7.0),
        ("max_completion_tokens", "max_tokens", 9),
        ("stop_sequences", "stop", ["END"]),
    ],
)
def test_the_names_of_other_packages_are_understood(theirs, ours, value):
    settings = {"model": "gpt-4o-mini", "api_key": "pk_test"}
    settings.pop(ours, None)
    assert getattr(ChatLunar(**settings, **{theirs: value}), ours) == value


def test_the_names_of_other_packages_are_understood_in_a_call(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    scripted().invoke("hi", model_name="gpt-4o", max_completion_tokens=9)
    (body,) = fault_server.bodies
    assert (body["model"], body["max_tokens"]) == ("gpt-4o", 9)


@pytest.mark.parametrize(
    "name",
    ["organization", "openai_proxy", "use_responses_api", "client", "app_title", "azure_api_key"],
)
def test_a_name_without_meaning_here_is_dropped_with_a_warning(name):
    with pytest.warns(UserWarning, match=name) as caught:
        model = ChatLunar(model="m", api_key="pk_test", **{name: "x"})
    assert model.model_kwargs == {}
    assert caught[0].filename == __file__


def test_a_name_that_nobody_knows_is_sent_with_a_warning(scripted, fault_server):
    fault_server.script(reply(json=completion()))
    with pytest.warns(UserWarning, match="frobnicate") as caught:
        model = scripted(frobnicate="low")
    model.invoke("hi")
    assert fault_server.bodies[0]["frobnicate"] == "low"
    assert caught[0].filename.endswith("conftest.py")


def test_parameters_of_openais_that_have_no_field_here_are_sent_and_need_no_warning(
    scripted, fault_server
):
    fault_server.script(reply(json=completion()))
    theirs = {"service_tier": "flex", "store": True, "verbosity": "low", "reasoning": {"a": 1}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = scripted(**theirs, model_kwargs={"b": 2})
    model.invoke("hi")
    assert fault_server.bodies[0].items() >= {**theirs, "b": 2}.items()


def test_a_name_without_meaning_and_without_value_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ChatLunar(model="m", api_key="pk_test", organization=None)


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_environment")
    monkeypatch.setenv("LUNAR_BASE_URL", "https://lunar.example")
    model = ChatLunar(model="m")
    assert model.api_key.get_secret_value() == "pk_environment"
    assert model.base_url == "https://lunar.example"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "LUNAR_API_KEY"),
        ({"api_key": "pk_test", "jwt": "ey.token"}, "jwt"),
        ({"api_key": " "}, "api_key"),
        ({"api_key": "pk_test", "base_url": "http://elsewhere.example"}, "https"),
        ({"api_key": "pk_test", "max_retries": -1}, "max_retries"),
        ({"api_key": "pk_test", "timeout": -1}, "timeout"),
        ({"api_key": "pk_test", "default_headers": {"x-api-key": "y"}}, "x-api-key"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else value,
)
def test_a_setting_that_cannot_work_is_refused_at_once_by_name(settings, named):
    with pytest.raises(ConfigurationError, match=named) as refused:
        ChatLunar(model="m", **settings)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def test_a_parameter_that_cannot_work_is_refused_before_anything_is_sent(scripted, fault_server):
    with pytest.raises(ConfigurationError, match="temperature"):
        scripted(temperature=3).invoke("hi")
    assert fault_server.requests == []


def test_no_error_of_the_constructor_shows_the_key():
    with pytest.raises(ValidationError) as refused:
        ChatLunar(model=["no name"], api_key="pk_live_secret")
    assert "pk_live_secret" not in str(refused.value)
    shown = []
    trace = refused.value.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename != __file__:
            shown += map(repr, trace.tb_frame.f_locals.values())
        trace = trace.tb_next
    assert "pk_live_secret" not in "".join(shown)


@pytest.mark.parametrize(
    "timeout",
    [7, (5, 7), [5, 7, 7, 7], lunar_core.Timeout(5, 7, 7, 7), httpx.Timeout(7, connect=5)],
    ids=repr,
)
def test_a_timeout_in_any_form_is_kept_as_numbers(timeout):
    model = ChatLunar(model="m", api_key="pk_test", timeout=timeout)
    assert model.timeout in (7.0, (5, 7, 7, 7))


def test_one_model_has_one_client_of_a_kind(chat):
    model = chat()
    ready = threading.Barrier(8)
    found = []

    def get():
        ready.wait()
        found.append(model.clients.sync)

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_a_field_that_is_set_later_counts_from_the_next_call(scripted, fault_server):
    fault_server.always(reply(json=completion()))
    model = scripted()
    model.invoke("hi")
    model.temperature = 0.9
    model.api_key = SecretStr("pk_rotated")
    model.invoke("hi")
    assert fault_server.bodies[1]["temperature"] == 0.9
    assert headers_of(fault_server.requests[1])["x-api-key"] == "pk_rotated"


def test_a_closed_model_refuses_further_calls(chat):
    model = chat()
    model.close()  # nothing was open yet
    model.invoke("hi")
    model.close()
    model.close()
    with pytest.raises(lunar_core.LunarError, match="closed"):
        model.invoke("hi")


async def test_a_model_closed_for_async_calls_refuses_those(chat):
    model = chat()
    await model.aclose()
    await model.ainvoke("hi")
    await model.aclose()
    await model.aclose()
    with pytest.raises(lunar_core.LunarError, match="closed"):
        await model.ainvoke("hi")
    assert model.invoke("Say hello").content == "hello"
