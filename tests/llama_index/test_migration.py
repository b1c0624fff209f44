"""Programs written for OpenAILike, OpenRouter or the vendor's class: the import and the name are all that changes."""

from __future__ import annotations

import base64
import inspect
import warnings

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    ChatMessage,
    ImageBlock,
    TextBlock,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.types import PydanticProgramMode

from llama_index_lunar import LunarLLM
from llama_index_lunar.messages import to_wire
from lunar_core import ConfigurationError
from tests.faults_steps import DONE, chunk, completion, reply, sse
from tests.llama_index.support import ENDPOINTS, STREAMS, ask, request_body, user

# The constructor of llama-index-llms-openai 0.7.10, which OpenAILike inherits, in its order.
POSITIONAL = {
    "model": "gpt-4o-mini",
    "temperature": 0.1,
    "max_tokens": 100,
    "additional_kwargs": {"seed": 1},
    "max_retries": 3,
    "timeout": 60.0,
    "reuse_client": False,
    "api_key": "k",
    "api_base": "https://example.com/v1",
    "api_version": "2024-01-01",
    "callback_manager": CallbackManager([]),
    "default_headers": {"x-a": "b"},
    "http_client": None,
    "async_http_client": None,
    "openai_client": None,
    "async_openai_client": None,
    "system_prompt": "Be brief",
    "messages_to_prompt": str,
    "completion_to_prompt": str,
    "pydantic_program_mode": PydanticProgramMode.DEFAULT,
    "output_parser": None,
    "strict": True,
    "reasoning_effort": "low",
    "modalities": ["text"],
    "audio_config": {"voice": "alloy"},
}
# OpenAILike's further fields.
NAMED = {
    "logprobs": True,
    "top_logprobs": 2,
    "context_window": 32_000,
    "is_chat_model": True,
    "is_function_calling_model": True,
    "should_use_structured_outputs": True,
    "tokenizer": "gpt2",
}
FIELDS = POSITIONAL.keys() - {
    "api_key",
    "http_client",
    "async_http_client",
    "openai_client",
    "async_openai_client",
}


def test_the_arguments_are_openai_likes_in_its_order():
    llm = LunarLLM(*POSITIONAL.values(), **NAMED)
    told = {**POSITIONAL, **NAMED}
    for name in FIELDS | NAMED.keys():
        assert getattr(llm, name) == told[name], name
    assert llm.api_key.get_secret_value() == "k"
    names = list(inspect.signature(LunarLLM).parameters)
    assert names[: len(POSITIONAL)] == list(POSITIONAL)
    assert LunarLLM(model="m", api_key="k", max_new_tokens=7).max_tokens == 7


@pytest.mark.parametrize(
    "told",
    [
        {"openai_client": object()},
        {"async_openai_client": object()},
        {"api_type": "open_ai"},
        {"order": ["openai", "azure"]},
        {"allow_fallbacks": False},
        {"environment": "staging"},
        {"additional_kwargs": {"extra_query": {"a": 1}}},
    ],
    ids=lambda told: next(iter(told)),
)
def test_an_argument_without_meaning_here_is_dropped_with_a_warning(told, llm_on, lunar_sandbox):
    with pytest.warns(UserWarning, match="no meaning for Lunar: dropped") as warned:
        llm = llm_on(lunar_sandbox, **told)
    (warning,) = warned
    assert warning.filename.endswith("conftest.py")  # where the LLM is made
    assert llm.complete("Say hello").text == "hello"
    assert request_body(lunar_sandbox.requests()[0]).keys() == {"model", "messages"}


def test_defaults_that_are_written_down_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LunarLLM("gpt-4o", api_key="k", openai_client=None, order=None, allow_fallbacks=None)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("model", "is_chat_model"),
    [("gpt-4o-mini", True), ("gpt-4o-mini", False), ("router", True)],
    ids=["chat", "text", "routed"],
)
async def test_streams_may_be_told_to_tell_their_usage(
    endpoint, model, is_chat_model, llm_on, lunar_sandbox
):
    """`stream_options` among `additional_kwargs` is how OpenAILike gets token counts; plain calls must not send it."""
    options = {"stream_options": {"include_usage": True}, "stream": True}
    llm = llm_on(lunar_sandbox, model=model, is_chat_model=is_chat_model, additional_kwargs=options)
    last = (await ask(llm, endpoint))[-1]
    assert last.additional_kwargs["total_tokens"] > 0
    *decision, request = lunar_sandbox.requests()
    assert len(decision) == (endpoint in STREAMS and model == "router")
    assert ("stream_options" in request_body(request)) is (endpoint in STREAMS)
    assert ("stream" in request_body(request)) is (endpoint in STREAMS)


async def test_usage_in_streams_may_be_declined(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox)
    await ask(llm, "stream_chat", stream_options={"include_usage": False})
    body = request_body(lunar_sandbox.requests()[0])
    assert body["stream_options"] == {"include_usage": False}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_logprobs_of_text_completions_are_asked_for_and_read_in_their_own_form(
    endpoint, llm_on, faults
):
    told = {
        "tokens": ["Hi"],
        "token_logprobs": [-0.1],
        "top_logprobs": [{"Hi": -0.1, "Ho": -2.5}],
        "text_offset": [0],
    }
    choice = {"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": told}
    if endpoint in STREAMS:
        faults.always(sse(chunk(choices=[choice]), DONE))
    else:
        faults.always(reply(json=completion(object="text_completion", choices=[choice])))
    llm = llm_on(faults, is_chat_model=False, logprobs=True, top_logprobs=2)
    first = (await ask(llm, endpoint))[0]
    assert [(each.token, each.logprob) for each in first.logprobs[0]] == [
        ("Hi", -0.1),
        ("Ho", -2.5),
    ]
    assert faults.bodies[0]["logprobs"] == 2
    assert "top_logprobs" not in faults.bodies[0]


SPOKEN = base64.b64encode(b"RIFF....WAVEfmt ").decode()


def spoken(**fields):
    audio = {"id": "audio_1", "data": SPOKEN, "transcript": "Good morning", **fields}
    message = {"role": "assistant", "content": None, "audio": audio}
    return completion(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])


async def test_what_a_model_speaks_is_a_block_and_its_words_are_the_text(llm_on, faults):
    faults.always(reply(json=spoken()))
    llm = llm_on(faults, modalities=["text", "audio"], audio_config={"voice": "a", "format": "wav"})
    (answer,) = await ask(llm, "achat")
    text, audio = answer.message.blocks
    assert (text.text, audio.resolve_audio().read()) == ("Good morning", b"RIFF....WAVEfmt ")
    assert faults.bodies[0]["audio"] == {"voice": "a", "format": "wav"}
    # Said again, as part of a conversation, it is its words: the API takes no audio of assistants.
    assert to_wire([answer.message]) == [{"role": "assistant", "content": "Good morning"}]


def test_pictures_and_sounds_of_users_are_sent_and_those_of_assistants_are_not():
    blocks = [
        TextBlock(text="so"),
        AudioBlock(audio=b"RIFF....WAVE", format="wav"),
        ImageBlock(url="https://example.com/cat.jpg"),
    ]
    (sent,) = to_wire([ChatMessage(role="user", blocks=blocks)])
    assert [part["type"] for part in sent["content"]] == ["text", "input_audio", "image_url"]
    (sent,) = to_wire([ChatMessage(role="assistant", blocks=blocks)])
    assert sent == {"role": "assistant", "content": "so"}


def test_extra_body_may_be_given_at_three_places(llm_on, lunar_sandbox):
    llm = llm_on(
        lunar_sandbox,
        additional_kwargs={"extra_body": {"seed": 1, "user": "u1"}},
        extra_body={"user": "u2", "metadata": {}},
    )
    assert llm.additional_kwargs["extra_body"] == {"seed": 1, "user": "u2", "metadata": {}}
    llm.complete("Say hello", extra_body={"seed": 2})
    body = request_body(lunar_sandbox.requests()[0])
    assert (body["seed"], body["user"], body["metadata"]) == (2, "u2", {})


class Words:
    """A tokenizer, as far as OpenAILike asks one."""

    def encode(self, text):
        return text.split()


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_tokenizer_tells_how_much_room_a_text_completion_has(
    endpoint, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, is_chat_model=False, context_window=100, tokenizer=Words())
    await ask(llm, endpoint, "Say one two")
    await ask(llm, endpoint, "Say one two", max_tokens=3)
    first, second = map(request_body, lunar_sandbox.requests())
    assert first["max_tokens"] == 100 - len(first["prompt"].split())
    assert second["max_tokens"] == 3
    with pytest.raises(ConfigurationError, match="do not fit"):
        await ask(llm, endpoint, "word " * 100)


def test_function_calls_of_old_histories_become_tool_calls():
    call = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    history = [
        *user("What is the weather?"),
        ChatMessage(role="assistant", content=None, additional_kwargs={"function_call": call}),
        ChatMessage("sunny", role="function", additional_kwargs={"name": "get_weather"}),
    ]
    _, asked, told = to_wire(history)
    assert asked["tool_calls"][0]["function"] == call
    assert told["role"] == "tool"
    assert told["tool_call_id"] == asked["tool_calls"][0]["id"]
