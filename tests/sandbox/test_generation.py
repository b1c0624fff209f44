"""What the built-in models say, by the rules that their modules state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.sandbox.raw import HELLO, chat, post, tool

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox


def ask(sandbox: Sandbox, prompt: Any, **body: Any) -> dict[str, Any]:
    reply = chat(sandbox, messages=[{"role": "user", "content": prompt}], **body)
    assert reply.status == 200, reply.body
    return dict(reply.json())


def said(sandbox: Sandbox, prompt: Any, **body: Any) -> str:
    return str(ask(sandbox, prompt, **body)["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Say hello", "hello"),
        ("Repeat after me: one two three.", "one two three"),
        ('Please reply with exactly "So be it."', "So be it."),
        ("Echo: Ünïcode 你好", "Ünïcode 你好"),
        ("Count to 5", "1 2 3 4 5"),
    ],
)
def test_it_repeats_and_counts(lunar_sandbox: Sandbox, prompt: str, answer: str) -> None:
    assert said(lunar_sandbox, prompt) == answer


def test_it_writes_as_many_words_as_it_is_asked_for(lunar_sandbox: Sandbox) -> None:
    answer = ask(lunar_sandbox, "Write 500 words about the sea")
    assert len(answer["choices"][0]["message"]["content"].split()) == 500
    assert answer["usage"]["completion_tokens"] == 500


def test_the_same_prompt_gets_the_same_answer(lunar_sandbox: Sandbox) -> None:
    for prompt in ("Write a haiku", "Why is the sky blue?"):
        assert said(lunar_sandbox, prompt) == said(lunar_sandbox, prompt, temperature=1.9, seed=3)


def test_an_unknown_topic_is_quoted(lunar_sandbox: Sandbox) -> None:
    assert "“Why is the sky blue?”" in said(lunar_sandbox, "Why is the sky blue?")


def test_only_the_last_user_message_is_answered(lunar_sandbox: Sandbox) -> None:
    messages = [
        {"role": "system", "content": "Say nothing"},
        {"role": "system", "content": "Say less"},
        {"role": "user", "content": "Say one"},
        {"role": "user", "content": "Say two"},
        {"role": "assistant", "content": "two"},
        {"role": "assistant", "content": "two!"},
        {"role": "user", "content": "Say three"},
    ]
    answer = chat(lunar_sandbox, messages=messages).json()
    assert answer["choices"][0]["message"]["content"] == "three"
    assert answer["usage"]["prompt_tokens"] == 7 * 3 + 12


def test_a_users_name_is_used(lunar_sandbox: Sandbox) -> None:
    messages = [{"role": "user", "name": "ada", "content": "hello"}]
    reply = chat(lunar_sandbox, messages=messages)
    assert reply.json()["choices"][0]["message"]["content"].startswith("ada, Hello!")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_ends_the_answer(lunar_sandbox: Sandbox, field: str) -> None:
    answer = ask(lunar_sandbox, "Count to 9", **{field: 4})
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("1 2 3 4", "length")
    assert answer["usage"]["completion_tokens"] == 4
    assert ask(lunar_sandbox, "Count to 9", **{field: 9})["choices"][0]["finish_reason"] == "stop"


def test_a_stop_sequence_ends_the_answer_before_itself(lunar_sandbox: Sandbox) -> None:
    answer = ask(lunar_sandbox, "Count to 9", stop=["7", " 4"])
    (choice,) = answer["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("1 2 3", "stop")
    body = {"model": "gpt-4o", "prompt": "Count to 9", "stop": ["5"]}
    assert post(lunar_sandbox, "/v1/completions", body).json()["choices"][0]["text"] == "1 2 3 4 "


def test_n_answers_differ_and_are_all_paid(lunar_sandbox: Sandbox) -> None:
    answer = ask(lunar_sandbox, "Count to 3", n=3)
    contents = [choice["message"]["content"] for choice in answer["choices"]]
    assert contents == ["1 2 3", "(choice 2) 1 2 3", "(choice 3) 1 2 3"]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 3 + 5 + 5


@pytest.mark.parametrize(
    ("model", "extra"), [("o3-mini", {}), ("gpt-4o", {"reasoning_effort": "low"})]
)
def test_reasoning_is_shown_and_counted(
    lunar_sandbox: Sandbox, model: str, extra: dict[str, str]
) -> None:
    answer = ask(lunar_sandbox, "Count to 3", model=model, **extra)
    message = answer["choices"][0]["message"]
    thought = answer["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert message["content"] == "1 2 3"
    assert thought == len(message["reasoning_content"].split()) > 0
    assert answer["usage"]["completion_tokens"] == thought + 3
    messages = [{"role": "user", "content": "Count to 3"}]
    reply = chat(lunar_sandbox, messages=messages, model=model, stream=True, **extra)
    deltas = [chunk["choices"][0]["delta"] for chunk in reply.events()[:-1]]
    thoughts = "".join(delta.get("reasoning_content", "") for delta in deltas)
    assert (thoughts, reply.text()) == (message["reasoning_content"], "1 2 3")


def test_a_limit_counts_thoughts_too(lunar_sandbox: Sandbox) -> None:
    answer = ask(lunar_sandbox, "Count to 9", model="o3-mini", max_tokens=2)
    assert answer["usage"]["completion_tokens"] == 2
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"] == ""


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,"}}


def test_images_files_and_sounds_are_mentioned_and_counted(lunar_sandbox: Sandbox) -> None:
    parts = [{"type": "text", "text": "What is this?"}, IMAGE, IMAGE, AUDIO, FILE]
    answer = ask(lunar_sandbox, parts)
    text = answer["choices"][0]["message"]["content"]
    assert "2 images and 1 file and 1 sound" in text
    assert answer["usage"]["prompt_tokens"] == 3 + 3 + 85 + 85 + 50 + 100


def test_a_tool_may_return_an_image(lunar_sandbox: Sandbox) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "draw", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "draw something"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": [IMAGE]},
    ]
    reply = chat(lunar_sandbox, messages=messages, tools=[tool("draw")])
    (choice,) = reply.json()["choices"]
    assert "1 image" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


def test_logprobs_have_a_token_for_each_word(lunar_sandbox: Sandbox) -> None:
    (choice,) = ask(lunar_sandbox, "Count to 3", logprobs=True, top_logprobs=2)["choices"]
    content = choice["logprobs"]["content"]
    assert [entry["token"] for entry in content] == ["1 ", "2 ", "3"]
    assert all(entry["logprob"] < 0 and len(entry["top_logprobs"]) == 2 for entry in content)
    messages = [{"role": "user", "content": "Count to 3"}]
    stream = chat(lunar_sandbox, messages=messages, logprobs=True, stream=True).events()[:-1]
    told = [chunk["choices"][0].get("logprobs") for chunk in stream]
    assert [entry["content"][0]["token"] for entry in told if entry] == ["1 ", "2 ", "3"]


def test_a_marked_prefix_is_cached_the_second_time(lunar_sandbox: Sandbox) -> None:
    marked = {"type": "text", "text": "long " * 100, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "system", "content": [marked]}, *HELLO]

    def usage() -> dict[str, Any]:
        return dict(chat(lunar_sandbox, model="gpt-4o", messages=messages).json()["usage"])

    first, second = usage(), usage()
    assert "prompt_tokens_details" not in first
    assert second["prompt_tokens_details"] == {"cached_tokens": 103}
    assert first["prompt_tokens"] == second["prompt_tokens"] == 107
    assert second["cache_input_cost_usd"] == 103 * 1.25 / 1e6
    assert second["input_cost_usd"] == 4 * 2.5 / 1e6
    another = lunar_sandbox.session("another")
    assert "prompt_tokens_details" not in chat(another, messages=messages).json()["usage"]


def test_unmarked_prompts_are_never_cached(lunar_sandbox: Sandbox) -> None:
    for _ in range(2):
        assert ask(lunar_sandbox, "long " * 2000)["usage"]["cache_input_cost_usd"] == 0


def test_json_mode_answers_with_the_keys_that_the_prompt_quotes(lunar_sandbox: Sandbox) -> None:
    wanted = {"type": "json_object"}
    prompt = "A riddle about owls, as JSON with 'question' and 'solution' keys."
    value = json.loads(said(lunar_sandbox, prompt, response_format=wanted))
    assert value.keys() == {"question", "solution"}
    assert json.loads(said(lunar_sandbox, "Anything", response_format=wanted)).keys() == {"answer"}


def test_a_json_schema_is_obeyed(lunar_sandbox: Sandbox) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "trip", "schema": schema}}
    prompt = "Plan 4 days in Lisbon"
    assert said(lunar_sandbox, prompt, response_format=wanted) == '{"city": "Lisbon", "days": 4}'


def test_a_schema_in_the_prompt_is_obeyed_too(lunar_sandbox: Sandbox) -> None:
    schema = {"properties": {"age": {"type": "integer"}}, "required": ["age"]}
    prompt = f"Ada is 36.\nAnswer in JSON by this schema:\n{json.dumps(schema)}"
    assert said(lunar_sandbox, prompt) == '{"age": 36}'


def test_megabytes_go_in_and_out(lunar_sandbox: Sandbox) -> None:
    prompt = "Write 300000 words. " + "word " * 1_000_000
    answer = ask(lunar_sandbox, prompt, model="gpt-4.1")
    assert answer["usage"]["prompt_tokens"] == 3 + 3 + 1_000_000
    assert answer["usage"]["completion_tokens"] == 300_000
