"""The body of an answer → its value, for every form that was seen."""

import json

import pytest

from lunar_core import ChatCompletion, Completion, Usage
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


def read_chat(**fields):
    return answers.read_chat(json.dumps(CHAT | fields).encode())


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


@pytest.mark.parametrize(
    "name", ["cache_read_input_tokens", "prompt_cache_hit_tokens", "cached_tokens"]
)
def test_cached_tokens_stand_in_one_place_whoever_counted_them(name):
    usage = read_chat(usage={"prompt_tokens": 9, name: 4}).usage
    assert (usage.prompt_tokens_details.cached_tokens, usage.model_extra[name]) == (4, 4)
    stated = read_chat(usage={name: 4, "prompt_tokens_details": {"cached_tokens": 3}}).usage
    assert stated.prompt_tokens_details.cached_tokens == 3
    assert read_chat(usage={name: "?"}).usage.prompt_tokens_details is None


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
        b'{"detail": "All providers failed"}',
        b'{"error": {"message": "overloaded"}}',
        b"[" * 100_000,
        b"9" * 5_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_what_is_no_completion_is_not_taken_for_one(body):
    with pytest.raises(ValueError, match=r"."):
        answers.read_chat(body)


def test_half_of_a_surrogate_pair_in_an_answer_becomes_a_character_that_can_be_written():
    body = b'{"choices": [{"message": {"content": "\\ud83d and \\ud83d\\ude00"}}]}'
    content = answers.read_chat(body).choices[0].message.content
    assert content == "\ufffd and 😀"
    content.encode()


@pytest.mark.parametrize(
    ("odd", "number"), [("-Infinity", -9999.0), ("NaN", None), ("Infinity", None)]
)
def test_numbers_that_json_has_not_are_ones_that_it_has(odd, number):
    body = (
        '{"choices": [{"message": {"content": "a"}, "logprobs": {"content": [{"logprob": %s}]}}]}'
    )
    read = answers.read_chat((body % odd).encode())
    assert read.choices[0].logprobs == {"content": [{"logprob": number}]}
    json.dumps(read.model_dump(mode="json"), allow_nan=False)


def test_one_odd_tool_call_spoils_nothing_around_it():
    odd = {"id": "c1", "type": "custom", "custom": {"name": "run", "input": "1"}}
    plain = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Hi", "tool_calls": [odd, plain, {"id": "c3"}]}
    read = read_chat(choices=[{"index": 0, "message": message}], usage={"total_cost_usd": 0.001})
    custom, function, empty = read.choices[0].message.tool_calls
    assert (custom.custom.name, custom.custom.input) == ("run", "1")
    assert (function.function.name, empty.function.name) == ("f", "")
    assert read.choices[0].message.model_dump(exclude_unset=True) == message
    sent_back = read.choices[0].message.model_dump(exclude_none=True)["tool_calls"]
    assert sent_back[:2] == [odd, plain]
    assert str(read.cost) == "0.001"


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


@pytest.mark.parametrize("score", ["NaN", '"NaN"', '"-inf"', "Infinity", "1e400"])
def test_a_score_that_is_no_number_is_unknown(score):
    body = json.dumps(CHAT | {"routing": DECISION | {"expected_error": "SCORE"}})
    routing = answers.read_routed(body.replace('"SCORE"', score).encode()).routing
    assert routing.expected_error is None
    assert routing.cost_adjusted_score == DECISION["cost_adjusted_score"]
