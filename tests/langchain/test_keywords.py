"""One mistake, one behaviour: what is checked where, and what no keyword may bring in by the pass-through door."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage

from langchain_lunar import ChatLunar, LunarCostCallbackHandler, LunarLLM, LunarRouterChain
from lunar_core import BudgetExceededError, ConfigurationError, Ledger, tags
from tests.faults_steps import completion, reply

KEY = {"model": "gpt-4o-mini", "api_key": "pk_test_1"}


def text_completion():
    return {"id": "cmpl-1", "model": "gpt-4o-mini", "choices": [{"index": 0, "text": "Hello!"}]}


# Reserved names (N2)


@pytest.mark.parametrize("place", ["constructor", "model_kwargs", "bind", "call"])
@pytest.mark.parametrize("cls", [ChatLunar, LunarLLM])
@pytest.mark.filterwarnings("ignore:stream has no meaning")
def test_stream_is_no_parameter_of_a_plain_call(fault_server, way, cls, place):
    body = completion() if cls is ChatLunar else text_completion()
    fault_server.always(reply(json=body))
    settings = {**KEY, "base_url": fault_server.origin, "max_retries": 0}
    given = {"constructor": {"stream": False}, "model_kwargs": {"model_kwargs": {"stream": False}}}
    model = cls(**settings, **given.get(place, {}))
    model = model.bind(stream=False) if place == "bind" else model
    answer = way.invoke(model, "hi", **({"stream": False} if place == "call" else {}))
    assert getattr(answer, "content", answer) == "Hello!"
    assert "stream" not in fault_server.bodies[0]


@pytest.mark.parametrize("given", [{"stream": True}, {"model_kwargs": {"stream": True}}])
def test_stream_among_the_settings_of_a_chat_model_means_that_it_streams(given):
    assert ChatLunar(**KEY, **given).streaming is True


NO_PARAMETERS = ["messages", "prompt", "execute", "api_key", "jwt", "base_url", "observers"]


@pytest.mark.parametrize("cls", [ChatLunar, LunarLLM])
@pytest.mark.parametrize("name", [*NO_PARAMETERS, "model"])
def test_what_is_no_parameter_is_refused_among_model_kwargs(cls, name):
    with pytest.raises(ConfigurationError, match=rf"^model_kwargs: {name}: "):
        cls(**KEY, model_kwargs={name: "x"})


@pytest.mark.parametrize("cls", [ChatLunar, LunarLLM])
@pytest.mark.parametrize("name", [n for n in NO_PARAMETERS if n not in {"messages", "prompt"}])
@pytest.mark.parametrize("place", ["bind", "call"])
def test_so_it_is_of_a_call_before_anything_is_sent(fault_server, way, cls, name, place):
    model = cls(**KEY | {"base_url": fault_server.origin})
    bound = model.bind(**{name: "pk_secret"}) if place == "bind" else model
    with pytest.raises(ConfigurationError, match=rf"^{name}: ") as caught:
        way.invoke(bound, "hi", **({} if place == "bind" else {name: "pk_secret"}))
    assert "pk_secret" not in str(caught.value)
    assert fault_server.bodies == []


@pytest.mark.parametrize("cls", [ChatLunar, LunarLLM])
@pytest.mark.parametrize("name", NO_PARAMETERS)
def test_nor_does_extra_body_bring_it_in(fault_server, way, cls, name):
    with pytest.raises(ConfigurationError, match=rf"^extra_body: {name}: "):
        cls(**KEY, extra_body={name: "pk_secret"})
    model = cls(**KEY | {"base_url": fault_server.origin})
    with pytest.raises(ConfigurationError, match=rf"^extra_body: {name}: ") as caught:
        way.invoke(model, "hi", extra_body={name: "pk_secret"})
    assert "pk_secret" not in str(caught.value)
    assert fault_server.bodies == []


@pytest.mark.parametrize("place", ["extra_body", "model_kwargs", "call"])
@pytest.mark.parametrize("cls", [ChatLunar, LunarLLM])
def test_options_of_streams_are_not_sent_with_plain_calls(fault_server, way, cls, place):
    body = completion() if cls is ChatLunar else text_completion()
    fault_server.always(reply(json=body))
    options = {"stream_options": {"include_usage": True}}
    settings = {} if place == "call" else {place: options}
    model = cls(**KEY | {"base_url": fault_server.origin}, **settings)
    way.invoke(model, "hi", **(options if place == "call" else {}))
    way.stream(model, "hi", **(options if place == "call" else {}))
    plain, streamed = fault_server.bodies
    assert "stream_options" not in plain
    assert streamed["stream_options"] == {"include_usage": True}


# Checked at construction (N4)


@pytest.mark.parametrize(
    ("cls", "settings", "name"),
    [
        (ChatLunar, {"model": ""}, "model"),
        (ChatLunar, {"model_kwargs": 5}, "model_kwargs"),
        (ChatLunar, {"cost_weight": -1}, "cost_weight"),
        (ChatLunar, {"models": ["gpt-4o"]}, "models"),
        (ChatLunar, {"temperature": 3}, "temperature"),
        (ChatLunar, {"max_tokens": 0}, "max_tokens"),
        (ChatLunar, {"top_p": 2}, "top_p"),
        (ChatLunar, {"n": 0}, "n"),
        (ChatLunar, {"presence_penalty": 3}, "presence_penalty"),
        (ChatLunar, {"model_kwargs": {"temperature": 3}}, "temperature"),
        (ChatLunar, {"response_format": "json"}, "response_format"),
        (LunarLLM, {"model_kwargs": {"top_p": 2}}, "top_p"),
        (LunarLLM, {"model": ""}, "model"),
        (LunarLLM, {"model_kwargs": 5}, "model_kwargs"),
        (LunarLLM, {"temperature": -1}, "temperature"),
        (LunarLLM, {"max_tokens": 0}, "max_tokens"),
        (LunarRouterChain, {"cost_weight": -1}, "cost_weight"),
        (LunarRouterChain, {"models": ["gpt-4o"]}, "models"),
        (LunarRouterChain, {"temperature": 3}, "temperature"),
    ],
)
def test_a_value_that_cannot_work_is_refused_when_the_model_is_made(cls, settings, name):
    keywords = {k: v for k, v in KEY.items() if cls is not LunarRouterChain or k != "model"}
    with pytest.raises(ConfigurationError, match=rf"^{name}: "):
        cls(**keywords | settings)


@pytest.mark.parametrize(
    ("cls", "name", "nearest"),
    [
        (ChatLunar, "temprature", "temperature"),
        (ChatLunar, "tool_choise", "tool_choice"),
        (LunarLLM, "max_token", "max_tokens"),
    ],
)
def test_a_misspelt_keyword_is_warned_about_with_the_nearest_name(cls, name, nearest):
    with pytest.warns(UserWarning, match=rf"^{name} \({nearest}\?\): not a parameter"):
        model = cls(**KEY, **{name: 1})
    assert model.model_kwargs == {name: 1}


# What was never sent is no call (N3)


class Refuses:
    def before(self, call):
        raise BudgetExceededError("no money left")

    def after(self, outcome):
        """Never told."""


def test_calls_that_were_never_sent_do_not_count(chat, way):
    handler, ledger = LunarCostCallbackHandler(), Ledger()
    model = chat(observers=[ledger, Refuses()], callbacks=[handler])
    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            way.invoke(model, "hi")
    with pytest.raises(ConfigurationError):
        way.invoke(model, [])
    assert (len(handler.ledger), len(ledger)) == (0, 0)


# Tags of a model (N8)


@pytest.mark.parametrize("given", [{"cost_tags": {"team": "search"}}, {"tags": {"team": "search"}}])
@pytest.mark.parametrize("kind", ["chat", "text", "chain"])
def test_a_models_tags_are_on_every_call_and_a_blocks_win(lunar_sandbox, way, given, kind):
    ledger, handler = Ledger(), LunarCostCallbackHandler()
    settings = {"api_key": lunar_sandbox.api_key, "base_url": lunar_sandbox.url}
    settings |= {"observers": [ledger], **given}
    make = {"chat": ChatLunar, "text": LunarLLM, "chain": LunarRouterChain}[kind]
    model = make(**settings, **({} if kind == "chain" else {"model": "gpt-4o-mini"}))
    config = {"callbacks": [handler]}
    way.invoke(model, "hi", config)
    with tags(team="ads", user="u1"):
        way.stream(model, "hi", config)
    for recorder in (ledger, handler):
        assert recorder.by_tag("team").keys() == {"search", "ads"}
        assert recorder.by_tag("user").keys() == {None, "u1"}


def test_a_list_of_tags_is_langchains_own(chat, way):
    handler = LunarCostCallbackHandler()
    way.invoke(chat(tags=["nightly"]), [HumanMessage("hi")], {"callbacks": [handler]})
    assert handler.by_run_tag.keys() == {"nightly"}
