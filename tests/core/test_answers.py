"""(status, headers, body) → a value or an error, for every body that was seen."""

import json
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core import ChatCompletion, Completion, RateLimitError, Usage
from lunar_core.wire import answers

NOW = 1_700_000_000.0
FAILED = "All providers failed for model 'x': Model not found"
DECISION = {
    "selected_model": "gpt-4o-mini",
    "selected_provider": "openai",
    "expected_error": 0.12,
    "cost_adjusted_score": 0.15,
    "cluster_id": 7,
    "reasoning": "simple question",
}
MESSAGE = {"role": "assistant", "content": "Hello!"}
CHAT = {
    "id": "chatcmpl-abc123",
    "object": "chat.completion",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
}


def error(status=500, body=b"", headers=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answers.status_error(status, httpx.Headers(headers or {}), body, now=NOW)


def read_chat(**fields):
    return answers.read_chat(json.dumps(CHAT | fields).encode())


# Errors and what they say


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"detail": FAILED}, FAILED),
        ({"error": FAILED}, FAILED),
        ({"message": FAILED}, FAILED),
        ({"error": {"message": FAILED}}, FAILED),
        ({"error": {"message": FAILED, "type": "server_error", "code": 500}}, FAILED),
        ({"error": {"message": FAILED, "code": "no_model"}}, f"{FAILED} (no_model)"),
        ({"detail": {"error": FAILED, "retry_after": 3}}, FAILED),
        (
            {
                "detail": {
                    "error": "No profiles",
                    "code": "MISSING_PROFILES",
                    "missing_profiles": ["a"],
                }
            },
            "No profiles (MISSING_PROFILES)",
        ),
        (
            {
                "detail": [
                    {"type": "missing", "loc": ["body", "model"], "msg": "Field required"},
                    {"loc": ["body", "messages", 0], "msg": "Input should be a dict"},
                ]
            },
            "body.model: Field required; body.messages.0: Input should be a dict",
        ),
        ({"detail": ["first", {"msg": "second"}]}, "first; second"),
        ({"detail": None, "message": FAILED}, FAILED),
        ({"detail": "", "error": FAILED}, FAILED),
        (FAILED, FAILED),
        (b"upstream connect error", "upstream connect error"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
        (
            (
                b"<!DOCTYPE html><html><style>h1 {color: red}</style><body><h1>Bad\n gateway</h1>"
                b"<script>alert('x')</script></body></html>"
            ),
            "Bad gateway",
        ),
        ({"detail": "caf\u00e9 \u2603"}, "café ☃"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_servers_reason_is_the_errors_text_whatever_form_it_came_in(body, reason):
    assert str(error(500, body)) == f"500: {reason}"


@pytest.mark.parametrize(
    "body",
    [b"", {}, [], None, 7, {"detail": None}, {"detail": {}}, {"error": []}, b"  \n"],
    ids=str,
)
def test_a_body_that_gives_no_reason_is_said_to_give_none(body):
    assert str(error(503, body)) == "503: the service gave no reason"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"detail": FAILED, "more": [1]}, {"detail": FAILED, "more": [1]}),
        (b"plain words", "plain words"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xef\xbb\xbf" + b'{"detail": "with a mark"}', {"detail": "with a mark"}),
    ],
    ids=str,
)
def test_the_whole_body_is_on_the_error(body, kept):
    assert error(404, body).body == kept


def test_a_long_reason_is_cut_and_the_body_is_not():
    long = error(400, {"detail": "x" * 5_000})
    assert len(str(long)) == len("400: ") + answers.MAX_REASON
    assert str(long).endswith("x…")
    assert len(long.body["detail"]) == 5_000


def test_a_redirect_is_not_followed_and_says_where_it_led():
    moved = error(307, b"", {"location": "https://elsewhere.example/"})
    assert "redirects are not followed" in str(moved)
    assert "https://elsewhere.example/" in str(moved)


@pytest.mark.parametrize(
    "name", ["x-request-id", "X-Request-ID", "request-id", "x-amzn-RequestId", "x-correlation-id"]
)
def test_the_services_name_for_the_request_is_found_under_every_usual_name(name):
    assert error(500, headers={name: "req_7"}).request_id == "req_7"
    assert error(500, headers={name: ""}).request_id is None


@given(st.integers(400, 599), st.binary(max_size=200))
def test_no_body_is_too_odd_to_be_an_error(status, body):
    refused = error(status, body)
    assert (refused.status_code, str(refused)[:5]) == (status, f"{status}: ")


KEYS = st.sampled_from(
    ["detail", "error", "message", "msg", "loc", "code", "choices", "usage", "delta", "retry_after"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(JSON)
def test_no_json_is_too_odd_either(body):
    assert isinstance(error(429, json.dumps(body).encode()), RateLimitError)


# How long to wait


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({}, {"detail": "slow down", "retry_after": 3}, 3.0),
        ({}, {"retry_after": 0.25}, 0.25),
        ({}, {"retry_after": "2"}, 2.0),
        ({}, {"retry_after": 0}, 0.0),
        ({}, {"detail": {"retry_after": 4}}, 4.0),
        ({}, {"detail": {"retry_after_s": 5}}, 5.0),
        ({}, {"error": {"message": "slow down", "retry_after": 6}}, 6.0),
        ({"Retry-After": "7"}, {}, 7.0),
        ({"retry-after": " 1.5 "}, {}, 1.5),
        ({"retry-after-ms": "250"}, {}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, {"retry_after": 9}, 0.25),
        ({"retry-after": "7"}, {"retry_after": 9}, 7.0),
        ({"retry-after": "soon"}, {"retry_after": 9}, 9.0),
        ({"retry-after-ms": "soon", "retry-after": "7"}, {}, 7.0),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, {}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, {}, 0.0),
        ({"retry-after": formatdate(NOW + 30)}, {}, 30.0),
        ({}, {"message": "Too Many Requests"}, None),
        ({}, b"", None),
        ({}, ["retry_after", 3], None),
    ],
    ids=str,
)
def test_the_wait_that_is_asked_for_is_found_in_every_place(headers, body, seconds):
    assert error(429, body, headers).retry_after == seconds


@pytest.mark.parametrize(
    "garbage",
    ["", "soon", "-1", "nan", "inf", "1e999", "0x10", "Mon, 99 Foo 2023", "9" * 400, "\u0663s"],
)
def test_garbage_is_no_wait(garbage):
    header = {"retry-after": garbage.encode("utf-8"), "retry-after-ms": garbage.encode("utf-8")}
    assert error(429, {"retry_after": garbage}, header).retry_after is None


@pytest.mark.parametrize("garbage", [None, True, [3], {"seconds": 3}, -3, float("nan"), 1e999])
def test_so_is_a_body_that_says_it_in_no_number(garbage):
    assert error(429, {"retry_after": garbage}).retry_after is None


def test_an_integer_too_large_for_a_float_is_no_wait():
    body = b'{"retry_after": ' + b"9" * 400 + b"}"
    assert error(429, body).retry_after is None


# Answers


def test_an_answer_keeps_every_field_that_the_service_sent():
    fields = CHAT | {"created": 7, "system_fingerprint": "fp_1", "service_tier": {"name": "x"}}
    answer = answers.read_chat(json.dumps(fields).encode())
    assert answer.model_dump(exclude_unset=True) == fields
    assert answer.system_fingerprint == "fp_1"


@pytest.mark.parametrize("missing", ["id", "object", "model", "usage", "created"])
def test_nothing_but_choices_is_needed(missing):
    fields = {name: value for name, value in CHAT.items() if name != missing}
    assert answers.read_chat(json.dumps(fields).encode()).choices[0].message.content == "Hello!"


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"id": 17}, lambda a: a.id == "17"),
        ({"id": ["x"]}, lambda a: a.id is None),
        ({"created": "yesterday"}, lambda a: a.created is None),
        ({"usage": "none"}, lambda a: a.usage is None),
        ({"usage": {}}, lambda a: a.usage == Usage()),
        ({"usage": {"prompt_tokens": None}}, lambda a: a.usage.prompt_tokens is None),
        ({"usage": {"prompt_tokens": "12"}}, lambda a: a.usage.prompt_tokens == 12),
        ({"usage": {"prompt_tokens": "12.5"}}, lambda a: a.usage.prompt_tokens is None),
        ({"usage": {"prompt_tokens": -1}}, lambda a: a.usage.prompt_tokens is None),
        ({"usage": {"total_cost_usd": "0.000045"}}, lambda a: str(a.usage.cost) == "0.000045"),
        ({"usage": {"total_cost_usd": float("nan")}}, lambda a: a.usage.cost is None),
        ({"usage": {"total_cost_usd": float("inf")}}, lambda a: a.usage.cost is None),
        ({"usage": {"total_cost_usd": -1}}, lambda a: a.usage.cost is None),
        ({"usage": {"total_cost_usd": [], "total_tokens": 3}}, lambda a: a.usage.total_tokens == 3),
        ({"routing": "gpt-4o"}, lambda a: a.routing is None),
        ({"routing": DECISION | {"cluster_id": "x"}}, lambda a: a.routing.cluster_id is None),
        ({"routing": DECISION | {"expected_error": "?"}}, lambda a: a.routing.cluster_id == 7),
    ],
    ids=lambda value: str(value)[:50] if isinstance(value, dict) else "",
)
def test_a_garbled_field_that_nobody_needs_is_forgiven(fields, seen):
    answer = read_chat(**fields)
    assert answer.choices[0].message.content == "Hello!"
    assert seen(answer)


AMOUNTS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_cost_usd",
    "output_cost_usd",
    "cache_input_cost_usd",
    "total_cost_usd",
    "latency_ms",
    "ttft_ms",
)


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("garbled", ["?", -1, [], float("nan"), float("inf")], ids=repr)
def test_of_tokens_costs_and_times_each_is_garbled_alone(name, garbled):
    usage = read_chat(usage={**dict.fromkeys(AMOUNTS, 2), name: garbled, "x_new": [1]}).usage
    expected = {**dict.fromkeys(AMOUNTS, 2), name: None}
    assert {each: getattr(usage, each) for each in AMOUNTS} == expected
    assert usage.x_new == [1]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("prompt_tokens_details", "cached_tokens"),
        ("prompt_tokens_details", "audio_tokens"),
        ("completion_tokens_details", "reasoning_tokens"),
        ("completion_tokens_details", "audio_tokens"),
    ],
)
def test_so_is_each_of_their_details(place, name):
    details = getattr(read_chat(usage={place: {name: "3", "x_new": 4}}).usage, place)
    assert (getattr(details, name), details.x_new) == (3, 4)
    details = getattr(read_chat(usage={place: {name: "?", "x_new": 4}}).usage, place)
    assert (getattr(details, name), details.x_new) == (None, 4)


def test_an_unknown_cost_is_never_zero():
    assert (read_chat(usage={"prompt_tokens": 9}).usage.cost, Usage().cost) == (None, None)
    assert read_chat(usage={"total_cost_usd": 0.0}).usage.cost == 0


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"content": "Hello!"}, "Hello!"),
        ({"role": None, "content": "Hello!"}, "Hello!"),
        ({"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]}, "Hello!"),
        ({"content": [{"type": "image"}, {"type": "text", "text": "Hello!"}]}, "Hello!"),
        ({"content": None, "tool_calls": None}, None),
        ({"role": "assistant"}, None),
    ],
    ids=str,
)
def test_a_message_is_read_in_every_form_that_upstreams_send(message, content):
    answer = read_chat(choices=[{"message": message}])
    assert (answer.choices[0].message.role, answer.choices[0].message.content) == (
        "assistant",
        content,
    )


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ({"name": "f", "arguments": '{"city": "Łódź"}'}, '{"city": "Łódź"}'),
        ({"name": "f", "arguments": {"city": "Łódź"}}, '{"city": "Łódź"}'),
        ({"name": "f", "arguments": []}, "[]"),
        ({"name": "f", "arguments": None}, ""),
        ({"name": "f"}, ""),
        ({"name": "f", "arguments": "{not json"}, "{not json"),
    ],
    ids=str,
)
def test_a_tool_calls_arguments_are_text_whatever_the_upstream_made_of_them(function, arguments):
    call = {"id": None, "function": function}
    answer = read_chat(choices=[{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}])
    (read,) = answer.choices[0].message.tool_calls
    assert (read.type, read.function.name, read.function.arguments) == ("function", "f", arguments)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"42",
        b'"Hello!"',
        b"[]",
        b"{}",
        b"<html></html>",
        b'{"id": "chatcmpl-abc123", "choi',
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {}}',
        b'{"choices": ["Hello!"]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": "Hello!"}]}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"tool_calls": "f"}}]}',
        b'{"choices": [{"message": {"tool_calls": [{"id": "call_1"}]}}]}',
        b'{"detail": "All providers failed"}',
        b'{"error": {"message": "overloaded"}}',
        b'data: {"choices": []}\n\n',
        b"[" * 100_000,
        b"9" * 5_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_what_is_no_completion_is_not_taken_for_one(body):
    with pytest.raises(ValueError, match=r"."):
        answers.read_chat(body)


def test_the_error_of_a_false_answer_shows_what_came_instead():
    headers = httpx.Headers({"content-type": "text/html", "x-request-id": "req_7"})
    refused = answers.not_the_answer(200, headers, b"<html>Welcome to nginx!</html>", "no JSON")
    assert (refused.status_code, refused.request_id) == (200, "req_7")
    for shown in ("200", "text/html", "no JSON", "Welcome to nginx!"):
        assert shown in str(refused)
    assert len(str(answers.not_the_answer(200, headers, b"x" * 9_999, "no JSON"))) < 500


def test_half_of_a_surrogate_pair_in_an_answer_becomes_a_character_that_can_be_written():
    body = b'{"choices": [{"message": {"content": "\\ud83d and \\ud83d\\ude00"}}]}'
    content = answers.read_chat(body).choices[0].message.content
    assert content == "\ufffd and 😀"
    content.encode()


def test_a_text_completion_is_read_as_the_reference_shows_it():
    body = {"choices": [{"text": " there was", "index": 0, "finish_reason": "stop"}]}
    answer = answers.read_text(json.dumps(body).encode())
    assert isinstance(answer, Completion)
    assert answer.choices[0].text == " there was"
    with pytest.raises(ValueError, match="choices"):
        answers.read_text(json.dumps(CHAT).encode())


# Decisions


@pytest.mark.parametrize(
    "body",
    [
        {"routing": DECISION},
        {"id": "x", "object": "chat.completion", "routing": DECISION, "choices": []},
        {"routing": DECISION, "choices": None, "usage": None},
        {"routing": {**DECISION, "all_scores": {"gpt-4o": 0.3}}},
        DECISION,
        {"id": "x", **DECISION},
    ],
    ids=lambda body: ", ".join(body)[:60],
)
def test_a_decision_is_found_under_routing_and_at_the_top(body):
    answer = answers.read_decision(json.dumps(body).encode())
    found = answer.routing.model_dump(exclude_unset=True)
    assert {name: found[name] for name in DECISION} == DECISION
    assert answer.choices == []


def test_all_that_the_observed_service_adds_to_a_decision_is_kept():
    body = {"routing": {**DECISION, "all_scores": {"gpt-4o": 0.3}}}
    assert answers.read_decision(json.dumps(body).encode()).routing.all_scores == {"gpt-4o": 0.3}


@pytest.mark.parametrize(
    "body", [{}, CHAT, {"routing": None}, {"routing": {}}, {"routing": {"selected_model": None}}]
)
def test_what_holds_no_decision_is_none(body):
    with pytest.raises(ValueError, match="routing"):
        answers.read_decision(json.dumps(body).encode())


def test_an_executed_route_has_choices_and_may_have_its_decision():
    answer = answers.read_routed(json.dumps(CHAT | {"routing": DECISION}).encode())
    assert answer.routing.selected_model == "gpt-4o-mini"
    with pytest.raises(ValueError, match="choices"):
        answers.read_routed(json.dumps({"routing": DECISION}).encode())


# Values


def test_answers_do_not_change_and_can_be_compared_copied_and_dumped():
    answer = read_chat(usage={"total_cost_usd": 0.000045})
    assert answer == read_chat(usage={"total_cost_usd": 0.000045})
    with pytest.raises(ValueError, match="frozen"):
        answer.model = "other"
    assert ChatCompletion.model_validate(answer.model_dump()) == answer
    assert "call" not in answer.model_dump()
