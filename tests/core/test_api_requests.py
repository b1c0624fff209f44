"""Endpoint and parameters → one request: checked by name before it is sent, and nothing dropped."""

import json
import math
from collections import UserDict
from functools import partial
from types import MappingProxyType

import pytest

from lunar_core import ChatCompletion, ConfigurationError, Lunar
from lunar_core.types.completions import Message
from lunar_core.wire import api_requests
from lunar_core.wire.keywords import KEYWORDS, find_nearest
from tests.faults_steps import completion, reply

HELLO = [{"role": "user", "content": "Hello!"}]
CHAT = {"model": "gpt-4o-mini", "messages": HELLO}
TEXT = {"model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time"}
ROUTER = {"messages": HELLO}


def chat(**params):
    """The request of a chat, as `create` makes it of its keywords."""
    return api_requests.chat(api_requests.clean(CHAT | params))


def sent(call):
    return json.loads(call.body)


# What is sent


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (api_requests.chat(CHAT), ("POST", "/v1/chat/completions", CHAT)),
        (api_requests.text(TEXT), ("POST", "/v1/completions", TEXT)),
        (api_requests.router(ROUTER), ("POST", "/v1/router", ROUTER)),
        (api_requests.profiles(), ("GET", "/v1/router/profiles", None)),
        (api_requests.models(), ("GET", "/v1/models", None)),
        (api_requests.priced_models(), ("GET", "/v1/pricing/models", None)),
        (api_requests.providers(None), ("GET", "/v1/providers", None)),
        (api_requests.providers("gpt-4o"), ("GET", "/v1/providers?model=gpt-4o", None)),
        (api_requests.providers("a/b &c"), ("GET", "/v1/providers?model=a%2Fb%20%26c", None)),
    ],
    ids=lambda value: value.path if isinstance(value, api_requests.APIRequest) else "",
)
def test_each_endpoint_is_one_method_path_and_body(call, line):
    assert (call.method, call.path, call.body and sent(call)) == line


def test_every_documented_field_is_sent_as_it_was_given():
    fields = {
        "stream": True,
        "max_tokens": 256,
        "temperature": 0.7,
        "top_p": 1.0,
        "stop": ["\n", "END"],
        "presence_penalty": -2,
        "frequency_penalty": 2.0,
        "n": 3,
        "provider": "openai",
    }
    assert sent(chat(**fields)) == CHAT | fields


def test_fields_that_the_api_does_not_document_go_through_untouched():
    extras = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/a"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
        "stream_options": {"include_usage": True},
        "seed": -7,
        "logit_bias": {"50256": -100},
        "user": "",
        "x_of_tomorrow": [{"deep": [1, 2.5, None, False]}],
    }
    assert sent(chat(**extras)) == CHAT | extras


@pytest.mark.parametrize("name", ["temperature", "stop", "tools", "models", "x_of_tomorrow"])
def test_none_means_not_sent(name):
    assert sent(chat(**{name: None})) == CHAT


def test_one_stop_sequence_is_sent_as_a_list():
    assert sent(chat(stop="END"))["stop"] == ["END"]
    assert sent(chat(stop=("a", "b")))["stop"] == ["a", "b"]


def test_extra_body_is_merged_last_and_not_sent_by_its_name():
    assert sent(chat(seed=1, extra_body={"seed": 2, "null": None})) == CHAT | {
        "seed": 2,
        "null": None,
    }


def test_numbers_arrive_as_they_were_written():
    assert b'"temperature":0.1,' in chat(temperature=0.1, top_p=1e-7, seed=2**63).body
    assert sent(chat(top_p=1e-7, seed=2**70)) == CHAT | {"top_p": 1e-7, "seed": 2**70}


@pytest.mark.parametrize(
    "text", ["naïve 😀", "line\u2028end", 'quote " \\ \x00', "NaN", "Infinity"]
)
def test_any_text_arrives_as_it_was_written(text):
    assert sent(chat(messages=[{"role": "user", "content": text}]))["messages"][0] == {
        "role": "user",
        "content": text,
    }


def test_messages_come_in_any_order_of_iteration_and_as_our_own_models():
    turns = ({"role": "user", "content": "Hi"}, Message(content="Hello!"))
    expected = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
    ]
    assert sent(chat(messages=turns))["messages"] == expected
    assert sent(chat(messages=iter(turns)))["messages"] == expected


def test_so_does_whatever_is_a_mapping():
    turn = UserDict(role="user", content=[MappingProxyType({"type": "text", "text": "Hi"})])
    assert sent(chat(messages=[MappingProxyType(turn)], metadata=UserDict(a=1))) == CHAT | {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "metadata": {"a": 1},
    }


def test_messages_of_every_role_and_parts_of_every_kind_are_sent_as_they_are():
    turns = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:,", "detail": "low"}},
                {"type": "of_tomorrow", "x": None},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "3"},
    ]
    assert sent(chat(messages=turns))["messages"] == turns


def test_an_answers_message_can_be_sent_back_as_it_is():
    answer = ChatCompletion.model_validate(
        {
            "choices": [
                {
                    "message": {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [
                            {
                                "id": "call_1",
                                "type": "function",
                                "function": {"name": "f", "arguments": "{}"},
                            }
                        ],
                        "vendor_field": "kept",
                    }
                }
            ]
        }
    )
    (message,) = sent(chat(messages=[answer.choices[0].message]))["messages"]
    assert message == {
        "role": "assistant",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
        "vendor_field": "kept",
    }


# Whom it asks


def test_a_call_knows_whom_it_asks_and_whether_it_streams():
    assert (api_requests.chat(CHAT).model, api_requests.chat(CHAT).stream) == ("gpt-4o-mini", False)
    assert chat(stream=True).stream
    assert api_requests.router(ROUTER).model == "router"


def test_the_same_request_of_another_model_differs_in_its_model_alone():
    other = chat(temperature=0.5).for_model("gpt-4o")
    assert (other.model, sent(other)) == ("gpt-4o", CHAT | {"model": "gpt-4o", "temperature": 0.5})


def test_a_model_that_names_its_provider_overrides_the_field_that_names_another():
    call = chat(provider="openai")
    assert sent(call.for_model("gpt-4o"))["provider"] == "openai"
    assert "provider" not in sent(call.for_model("mistral/mistral-large-latest"))


def test_a_prefix_of_the_model_is_sent_with_it():
    assert sent(chat(model="openai/gpt-4o-mini"))["model"] == "openai/gpt-4o-mini"


def test_a_stream_is_asked_for_or_not_mentioned():
    assert sent(chat(stream=True))["stream"] is True
    assert "stream" not in sent(chat(stream=False))


def test_the_same_parameters_give_the_same_bytes():
    assert chat(seed=1, user="u").body == chat(seed=1, user="u").body


# What is refused


def test_a_number_too_long_to_be_printed_is_refused_all_the_same():
    for name in ("temperature", "max_tokens"):
        with pytest.raises(ConfigurationError, match=f"^{name}: must be "):
            chat(**{name: -(10**5_000)})


NUMBERS = ["1", True, float("nan"), float("inf"), -(10**400), [1], {}]
REFUSED = {
    "model": ["", "  ", 7, ["gpt-4o"]],
    "messages": [[], "Hello!", {"role": "user", "content": "Hello!"}, 7, b"Hello!"],
    "messages[1]": [[*HELLO, "Hello!"], [*HELLO, None], [*HELLO, ["user", "Hello!"]]],
    "messages[0].role": [[{"content": "Hello!"}], [{"role": 7, "content": "Hello!"}]],
    "messages[0].content": [
        [{"role": "user"}],
        [{"role": "user", "content": None}],
        [{"role": "tool", "tool_call_id": "call_1"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": {"type": "text"}}],
    ],
    "messages[0].content[1]": [[{"role": "user", "content": ["Hello!", 7]}]],
    "stream": [1, "true", 0],
    "max_tokens": [0, -1, 1.5, *NUMBERS],
    "temperature": [-0.1, 2.1, 10**400, *NUMBERS],
    "top_p": [-0.1, 1.1, *NUMBERS],
    "presence_penalty": [-2.1, 2.1, *NUMBERS],
    "frequency_penalty": [-2.1, 2.1, *NUMBERS],
    "n": [0, 1.0, *NUMBERS],
    "stop": [7, [7], {"END": 1}],
    "provider": ["", 7],
    "tools": ["f", ["f"], {"name": "f"}],
    "response_format": ["json_object", [{}]],
    "extra_body": ["seed", [("seed", 1)]],
}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [(name, wrong) for name, values in REFUSED.items() for wrong in values],
    ids=lambda value: repr(value)[:40],
)
def test_each_local_check_names_its_field(name, wrong):
    with pytest.raises(ConfigurationError) as caught:
        chat(**{name.partition("[")[0]: wrong})
    assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        ("temperature", 3, "not 3"),
        ("temperature", "hot", "not a str"),
        ("n", True, "not True"),
        ("prompt", ["my secret"], "not a list"),
        ("extra_body", ["my secret"], "not a list"),
        ("x", {"y": object()}, "written as JSON: it holds an object of type object"),
    ],
)
def test_it_tells_a_number_that_came_and_of_anything_else_the_type_alone(name, wrong, told):
    with pytest.raises(ConfigurationError) as caught:
        chat(**{name: wrong})
    assert str(caught.value).endswith(told)
    assert "my secret" not in str(caught.value)


@pytest.mark.parametrize("missing", CHAT)
def test_so_does_the_check_of_what_is_missing(missing):
    params = {name: value for name, value in CHAT.items() if name != missing}
    with pytest.raises(ConfigurationError, match=f"^{missing}: is required"):
        api_requests.chat(params)


@pytest.mark.parametrize(
    ("make", "params", "missing"),
    [
        (api_requests.text, TEXT, "model"),
        (api_requests.text, TEXT, "prompt"),
        (api_requests.router, ROUTER, "messages"),
    ],
)
def test_of_texts_and_the_router_too(make, params, missing):
    with pytest.raises(ConfigurationError, match=f"^{missing}: is required"):
        make({name: value for name, value in params.items() if name != missing})


@pytest.mark.parametrize("wrong", ["", 7, "half \ud83d"])
def test_providers_are_asked_of_a_model_with_a_name(wrong):
    with pytest.raises(ConfigurationError, match=r"^model: "):
        api_requests.providers(wrong)


@pytest.mark.parametrize("wrong", [None, 7, ["Once"], b"Once"])
def test_a_prompt_is_one_string(wrong):
    with pytest.raises(ConfigurationError, match=r"^prompt: "):
        api_requests.text(api_requests.clean(TEXT | {"prompt": wrong}))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("models", ["gpt-4o"]),
        ("models", []),
        ("models", "gpt-4o"),
        ("models", ["gpt-4o", 7]),
        ("models", ["gpt-4o", " "]),
        ("cost_weight", -0.1),
        ("cost_weight", "0.5"),
        ("cost_weight", math.inf),
        ("cost_weight", math.nan),
        ("execute", 1),
        ("messages", []),
    ],
)
def test_the_router_is_asked_only_what_it_can_answer(name, wrong):
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        api_requests.router(ROUTER | {name: wrong})


def test_the_router_is_asked_for_no_text_completion():
    with pytest.raises(ConfigurationError, match="model: the router"):
        api_requests.text({"model": "router", "prompt": "Hi"})


def test_a_decision_alone_cannot_be_streamed():
    with pytest.raises(ConfigurationError, match=r"^stream: .*execute=False"):
        api_requests.router(ROUTER | {"execute": False, "stream": True})


@pytest.mark.parametrize(
    "edge",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 0.0},
        {"presence_penalty": -2},
        {"frequency_penalty": 2.0},
        {"max_tokens": 1},
        {"n": 1},
        {"stop": []},
        {"messages": [{"role": "assistant", "content": None}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": []}]},
        {"messages": [{"role": "critic", "content": "a role of tomorrow"}]},
    ],
    ids=repr,
)
def test_what_stands_just_inside_the_bounds_is_taken(edge):
    assert sent(chat(**edge)) == CHAT | edge


# What no JSON can carry


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("wrapped", [lambda x: x, lambda x: [x], lambda x: {"a": {"b": [x]}}])
def test_nan_is_refused_wherever_it_hides(number, wrapped):
    with pytest.raises(ConfigurationError, match=r"^x_of_tomorrow: .*(NaN|JSON)"):
        chat(x_of_tomorrow=wrapped(number))


def test_half_of_a_surrogate_pair_in_a_conversation_becomes_a_replacement_character():
    halves = {"role": "user", "content": "half \ud83d of a face, and both: \ud83d\ude00"}
    (_, message) = sent(chat(messages=[*HELLO, halves]))["messages"]
    assert message["content"] == "half \ufffd of a face, and both: \U0001f600"


def test_half_of_a_surrogate_pair_elsewhere_is_refused_by_its_field():
    with pytest.raises(ConfigurationError, match=r"^user: "):
        chat(user="half \ud83d of a face")


def test_another_model_gets_the_conversation_without_what_the_first_one_signed():
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    signed_call = {**call, "extra_content": {"google": {"thought_signature": "S"}}}
    signed = {
        **answer,
        "tool_calls": [signed_call],
        "reasoning_content": "hm",
        "reasoning_details": [1],
    }
    request = chat(messages=[*HELLO, signed])
    assert sent(request)["messages"] == [*HELLO, signed]
    assert sent(request.for_model("gpt-4o"))["messages"] == [*HELLO, answer]
    assert sent(request.for_model("gpt-4o-mini"))["messages"] == [*HELLO, signed]


@pytest.mark.parametrize("value", [object(), lambda: 1])
def test_a_value_that_is_no_json_is_refused_by_its_field(value):
    with pytest.raises(ConfigurationError, match=r"^user: .*JSON"):
        chat(user=value)
    with pytest.raises(ConfigurationError, match=r"^tools\[0\]: "):
        chat(tools=[{"function": {"parameters": value}}])


def test_so_is_one_that_holds_itself():
    loop = {}
    loop["loop"] = loop
    with pytest.raises(ConfigurationError, match=r"^response_format: "):
        chat(response_format=loop)


def test_a_refusal_shows_no_prompt():
    message = {"role": "user", "content": "my diagnosis", "unsendable": object()}
    with pytest.raises(ConfigurationError) as caught:
        chat(messages=[message])
    assert "diagnosis" not in str(caught.value)


# Keywords


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("fallback", "fallbacks"),
        ("cost_weigth", "cost_weight"),
        ("tool_choise", "tool_choice"),
    ],
)
def test_a_misspelt_keyword_is_warned_of_with_the_nearest_name_and_sent(
    name, meant, connect, fault_server
):
    fault_server.script(reply(json=completion("Hello")))
    with pytest.warns(UserWarning, match=f"{name}: .* did you mean {meant}\\?"):
        connect(fault_server).chat.completions.create(**CHAT, **{name: 1})
    assert json.loads(fault_server.requests[0].body)[name] == 1


@pytest.mark.parametrize(
    "name", ["top_k", "max_completion_tokens", "repetition_penalty", "x_new", "stop"]
)
def test_what_is_known_or_near_nothing_is_not(name):
    assert find_nearest(name) is None


def test_every_field_that_is_checked_is_a_keyword_that_is_known():
    assert api_requests._CHECKS.keys() | api_requests.OPTIONS <= KEYWORDS


@pytest.mark.parametrize(("stream", "told"), [(False, True), (True, False), (None, 1)])
def test_extra_body_does_not_change_what_a_call_returns(stream, told):
    with pytest.raises(ConfigurationError, match="extra_body: stream"):
        chat(stream=stream, extra_body={"stream": told})
    assert sent(chat(stream=True, extra_body={"stream": True}))["stream"] is True


@pytest.mark.parametrize("name", ["extra_query", "default_query"])
def test_a_query_of_openais_client_is_refused_by_name(name):
    with (
        Lunar("pk_key", base_url="http://127.0.0.1:1") as client,
        pytest.raises(ConfigurationError, match=rf"^{name}: Lunar's URLs have no query"),
    ):
        client.chat.completions.create(model="m", messages=HELLO, **{name: {"a": "b"}})


@pytest.mark.parametrize("name", ["api_key", "jwt", "base_url", "default_headers", "observers"])
@pytest.mark.parametrize("is_inside", [False, True], ids=["keyword", "extra_body"])
def test_a_setting_of_the_client_is_no_keyword_of_a_call(name, is_inside):
    keywords = {"extra_body": {name: "pk_secret"}} if is_inside else {name: "pk_secret"}
    with Lunar("pk_key", base_url="http://127.0.0.1:1") as client:
        for ask in (
            partial(client.chat.completions.create, model="m", messages=HELLO),
            partial(client.completions.create, model="m", prompt="hi"),
            partial(client.router.create, messages=HELLO),
            partial(client.router.decide, messages=HELLO),
        ):
            with pytest.raises(ConfigurationError, match=rf"{name}: a setting of the client") as e:
                ask(**keywords)
            assert "pk_secret" not in str(e.value)


def test_a_model_that_no_url_can_hold_is_refused():
    with pytest.raises(ConfigurationError, match=r"^model: is too long for a URL"):
        api_requests.providers("m" * 100_000)
