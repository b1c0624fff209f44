"""`model="router"`: which requests one POST /v1/router carries, and what is asked of it otherwise."""

import json

import pytest

from lunar_core import ConfigurationError, RoutingDecision
from lunar_core import routing as rules
from lunar_core.client.attempts import Reply
from lunar_core.client.call import Runtime
from lunar_core.client.notices import CostNotice
from lunar_core.client.planner import Planner
from lunar_core.errors import APIConnectionError
from lunar_core.settings import Settings
from lunar_core.wire import answers
from lunar_core.wire.routes import find_provider, read_route

HELLO = [{"role": "user", "content": "Hello!"}]
PLAIN = {"model": "router", "messages": HELLO}
ROUTE = {"selected_model": "gpt-4o", "selected_provider": "openai", "cluster_id": 7}


@pytest.fixture
def planner():
    settings = Settings.resolve(api_key="pk_live_5d1c0e77", fallbacks=[])
    return Planner(settings, (), Runtime(lambda: 0.0, lambda: 0.0, lambda: 0.0), CostNotice())


def requests(call_and_plan, *outcomes):
    """The requests of a plan whose attempts end so, as (path, body)."""
    _call, plan = call_and_plan
    send, outcomes, made = next(plan), iter(outcomes), []
    while True:
        made.append((send.request.path, json.loads(send.request.body)))
        outcome = next(outcomes, "answer")
        failed = isinstance(outcome, Exception)
        try:
            send = plan.send(Reply(send.request, **{"error" if failed else "answer": outcome}))
        except StopIteration:
            return made


def decision(**fields):
    return answers.read_decision(json.dumps({"routing": ROUTE | fields}).encode())


# One request, or two


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_tokens": 9, "temperature": 0.2},
        {"models": ["gpt-4o", "gpt-4o-mini"], "cost_weight": 0.3},
        {"stop": None, "tools": None},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                *HELLO,
                {"role": "assistant", "content": "Hi"},
                *HELLO,
            ]
        },
    ],
    ids=str,
)
def test_plain_text_and_the_routers_own_fields_are_one_request(params, planner):
    ((path, body),) = requests(planner.chat(PLAIN | params))
    given = {name: value for name, value in params.items() if value is not None}
    assert (path, body) == ("/v1/router", {"messages": HELLO} | given)


@pytest.mark.parametrize(
    "params",
    [
        {"stop": ["END"]},
        {"n": 2},
        {"top_p": 0.5},
        {"seed": 7},
        {"provider": "openai"},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"extra_body": {"x_of_tomorrow": 1}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]},
        {"messages": [{"role": "user", "content": "Hello!", "name": "ada"}]},
        {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": []}]},
        {"messages": [*HELLO, {"role": "tool", "content": "3", "tool_call_id": "call_1"}]},
        {"messages": [*HELLO, {"role": "critic", "content": "a role that it does not know"}]},
    ],
    ids=str,
)
def test_anything_else_decides_first_and_then_calls_with_nothing_dropped(params, planner):
    first, second = requests(planner.chat(PLAIN | params), decision())
    assert first == ("/v1/router", {"messages": HELLO, "execute": False})
    extra = params.get("extra_body", {})
    given = {name: value for name, value in params.items() if name != "extra_body"}
    expected = PLAIN | {"model": "gpt-4o"} | given | extra
    assert second == ("/v1/chat/completions", expected)


def test_a_stream_decides_first_and_asks_for_its_usage(planner):
    first, second = requests(planner.chat(PLAIN | {"stream": True}), decision())
    assert first == ("/v1/router", {"messages": HELLO, "execute": False})
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    assert second == ("/v1/chat/completions", PLAIN | {"model": "gpt-4o"} | usage)


def test_a_stream_asks_for_no_usage_where_the_call_says_so(planner):
    _, (_, body) = requests(
        planner.chat(PLAIN | {"stream": True, "stream_usage": False}), decision()
    )
    assert "stream_options" not in body


def test_the_routers_own_stream_stays_one_request(planner):
    ((path, _),) = requests(planner.router({"messages": HELLO, "stream": True}))
    assert path == "/v1/router"


def test_the_decision_is_asked_with_the_candidates_and_the_call_without(planner):
    router = {"models": ["gpt-4o", "gpt-4o-mini"], "cost_weight": 0.3}
    (_, asked), (_, called) = requests(planner.chat(PLAIN | {"stop": "END"} | router), decision())
    assert asked == {"messages": HELLO, "execute": False} | router
    assert called == {"model": "gpt-4o", "messages": HELLO, "stop": ["END"]}


def test_candidates_beside_a_model_that_is_named_are_kept_back_and_no_error(planner):
    params = {"model": "gpt-4o", "messages": HELLO, "models": ["just-one"], "cost_weight": 0.3}
    ((path, body),) = requests(planner.chat(params))
    assert path == "/v1/chat/completions"
    assert body == {"model": "gpt-4o", "messages": HELLO}


def test_what_is_wrong_is_refused_before_the_decision_too(planner):
    for wrong in ({"models": ["just-one"]}, {"cost_weight": -1}, {"temperature": 3}, {"n": 0}):
        with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
            planner.chat(PLAIN | {"stop": "END"} | wrong)
        if "n" not in wrong:
            with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))}: "):
                planner.chat(PLAIN | wrong)


def test_a_routed_call_that_may_be_retried_falls_back_through_chat(planner):
    reset = APIConnectionError("reset")
    params = {"max_tokens": 9, "cost_weight": 0.3, "max_retries": 0, "fallbacks": ["a", "b"]}
    made = requests(planner.chat(PLAIN | params), reset, reset)
    plain = {"messages": HELLO, "max_tokens": 9}
    assert made == [
        ("/v1/router", plain | {"cost_weight": 0.3}),
        ("/v1/chat/completions", plain | {"model": "a"}),
        ("/v1/chat/completions", plain | {"model": "b"}),
    ]


USAGE = {"stream_options": {"include_usage": True}}
WANTED = {"stream": True, "stream_usage": True, "max_retries": 0, "fallbacks": ["a"]}


@pytest.mark.parametrize("ask", ["chat", "router"])
def test_a_caller_who_wants_usage_asks_the_models_that_stand_in_for_a_router(ask, planner):
    params = {"messages": HELLO} | ({"model": "router"} if ask == "chat" else {})
    made = requests(getattr(planner, ask)(params | WANTED), APIConnectionError("reset"))
    streamed = {"messages": HELLO, "stream": True}
    decides = {
        "messages": HELLO,
        "execute": False,
    }  # chat decides first; router.create streams at once
    assert made == [
        ("/v1/router", decides if ask == "chat" else streamed),
        ("/v1/chat/completions", streamed | {"model": "a"} | USAGE),
    ]


def test_and_the_model_of_a_decision_but_not_the_router_that_took_it(planner):
    made = requests(planner.chat(PLAIN | WANTED | {"stop": ["END"]}), decision())
    assert made[0] == ("/v1/router", {"messages": HELLO, "execute": False})
    assert made[1][1] == PLAIN | {"model": "gpt-4o", "stop": ["END"], "stream": True} | USAGE


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"stream": True, "stream_usage": True}, USAGE),
        ({"stream": True, "stream_usage": False}, {}),
        ({"stream": True, "stream_usage": None}, {}),
        ({"stream": True}, {}),
        ({"stream": False, "stream_usage": True}, {}),
        ({"stream": True, "stream_usage": True, "stream_options": {}}, {"stream_options": {}}),
        (
            {"stream": True, "stream_usage": True, "extra_body": {"stream_options": {"x": 1}}},
            {"stream_options": {"x": 1}},
        ),
    ],
    ids=str,
)
def test_usage_is_asked_for_only_where_the_caller_wants_it_and_has_not_said_how(
    given, sent, planner
):
    for ask, prompt in ((planner.chat, {"messages": HELLO}), (planner.text, {"prompt": "Hello!"})):
        ((_, body),) = requests(ask({"model": "gpt-4o"} | prompt | given))
        stream = {"stream": True} if given["stream"] else {}
        assert body == {"model": "gpt-4o"} | prompt | stream | sent


@pytest.mark.parametrize("wrong", [1, "yes", {"include_usage": True}])
def test_whether_it_is_wanted_is_a_yes_or_a_no(wrong, planner):
    for model in ("gpt-4o", "router"):
        with pytest.raises(ConfigurationError, match=r"^stream_usage: "):
            planner.chat({"model": model, "messages": HELLO, "stream_usage": wrong})


def test_a_decision_alone_has_no_other_to_fall_back_to(planner):
    reset = APIConnectionError("reset")
    params = {"messages": HELLO, "execute": False, "max_retries": 0, "fallbacks": ["a"]}
    assert len(requests(planner.router(params), reset)) == 1


def test_whether_one_request_will_do_can_be_asked_beforehand():
    assert rules.takes_one_request(PLAIN)
    assert not rules.takes_one_request(PLAIN | {"stop": ["END"]})
    assert rules.is_routed(PLAIN)
    assert not rules.is_routed(PLAIN | {"model": "gpt-4o"})


# What the router is told of a conversation


@pytest.mark.parametrize(
    ("turns", "text"),
    [
        (HELLO, HELLO),
        (
            [{"role": "developer", "content": "Be brief."}, *HELLO],
            [{"role": "system", "content": "Be brief."}, *HELLO],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is"},
                        {"type": "image_url", "image_url": {"url": "data:,"}},
                        {"type": "text", "text": "this?"},
                        "And that?",
                    ],
                }
            ],
            [{"role": "user", "content": "What is\nthis?\nAnd that?"}],
        ),
        (
            [
                *HELLO,
                {"role": "assistant", "content": None, "tool_calls": [{}]},
                {"role": "tool", "content": "3", "tool_call_id": "call_1"},
            ],
            HELLO,
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            [{"role": "user", "content": ""}],
        ),
        ([{"role": "assistant", "content": ""}], [{"role": "user", "content": ""}]),
    ],
)
def test_the_text_turns_are_what_a_router_can_read(turns, text):
    assert rules.text_turns(turns) == text


def test_turns_that_are_no_messages_are_left_for_the_check_to_name():
    assert rules.text_turns("Hello!") == "Hello!"
    assert rules.text_turns(["Hello!"]) == ["Hello!"]


# Who it was


@pytest.mark.parametrize(
    ("model", "route", "extra", "provider"),
    [
        ("gpt-4o", None, {"provider": "azure"}, "azure"),
        ("gpt-4o", ROUTE, {"provider": "azure"}, "azure"),
        ("gpt-4o", ROUTE, {}, "openai"),
        (None, ROUTE, {}, "openai"),
        ("mistral/mistral-large", ROUTE, {}, "mistral"),
        ("mistral/mistral-large", None, {}, "mistral"),
        ("gpt-4o", ROUTE | {"selected_provider": ""}, {}, None),
        ("gpt-4o", None, {"provider": 7}, None),
        ("gpt-4o", None, {}, None),
        (None, None, {}, None),
    ],
)
def test_the_provider_is_whom_the_service_the_route_or_the_name_says(model, route, extra, provider):
    route = route and RoutingDecision.model_validate(route)
    assert find_provider(model, route, extra) == provider


@pytest.mark.parametrize(
    ("headers", "route"),
    [
        ({"x-routing-model": "gpt-4o", "x-routing-cluster": "7"}, ("gpt-4o", 7)),
        ({"x-routing-model": "gpt-4o", "x-routing-cluster": "-1"}, ("gpt-4o", -1)),
        ({"x-routing-model": "gpt-4o", "x-routing-cluster": "seven"}, ("gpt-4o", None)),
        ({"x-routing-model": "gpt-4o"}, ("gpt-4o", None)),
        ({"x-routing-cluster": "7"}, None),
        ({}, None),
    ],
)
def test_a_route_is_read_from_the_headers_that_were_seen(headers, route):
    found = read_route(headers)
    assert (found and (found.selected_model, found.cluster_id)) == route


@pytest.mark.parametrize("cluster", ["--7", "²", "-", "7.5", "", "9" * 5_000])
def test_a_garbled_cluster_is_unknown_and_no_error(cluster):
    found = read_route({"x-routing-model": "gpt-4o", "x-routing-cluster": cluster})
    assert (found.selected_model, found.cluster_id) == ("gpt-4o", None)


QUESTION = {"role": "user", "content": "?"}
ANSWER = {"role": "assistant", "content": "!"}
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"id": "a"}]}
RESULT = {"role": "tool", "content": "ok", "tool_call_id": "a"}


@pytest.mark.parametrize(
    ("messages", "sticky", "kept"),
    [
        ([QUESTION, CALLING, RESULT], "tools", True),
        ([QUESTION, CALLING, RESULT, RESULT], "tools", True),
        ([QUESTION, CALLING, RESULT], "conversation", True),
        ([QUESTION, CALLING, RESULT], "off", False),
        ([QUESTION, CALLING], "tools", False),
        ([QUESTION, ANSWER, RESULT], "tools", False),
        ([QUESTION, CALLING, RESULT, QUESTION], "tools", False),
        ([QUESTION, CALLING, RESULT, QUESTION], "conversation", True),
        ([QUESTION, ANSWER, QUESTION], "tools", False),
        ([QUESTION, ANSWER, QUESTION], "conversation", True),
        ([QUESTION], "conversation", False),
        ([], "tools", False),
    ],
)
def test_a_conversation_keeps_to_the_model_of_an_answer_as_it_was_told_to(messages, sticky, kept):
    answer = rules.find_sticky_answer(messages, sticky)
    assert (answer is not None) == kept
    assert answer is None or answer["role"] == "assistant"
