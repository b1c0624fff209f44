"""Structured output, forced in every form, with its costs."""

from __future__ import annotations

import json

import pytest
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, Field

from llama_index_lunar import LunarCostCallback, lunar_cost
from tests.faults_steps import DONE, chunk, completion, reply, sse
from tests.llama_index.support import request_body, user

FORMS = [
    "structured_predict",
    "astructured_predict",
    "stream_structured_predict",
    "astream_structured_predict",
]
PROMPT = PromptTemplate('The song is "{title}" by "Ann", year 1990.')


class Song(BaseModel):
    """A song."""

    title: str
    artist: str
    year: int = Field(description="of its release")


SONG = Song(title="Blue", artist="Ann", year=1990)


async def predict(llm, form, prompt=PROMPT, output_cls=Song, **kwargs):
    """The object, or the last of a stream of them."""
    kwargs = {"title": "Blue", **kwargs}
    found = getattr(llm, form)(output_cls, prompt, **kwargs)
    if form.startswith("a"):
        found = await found
    if "stream" not in form:
        return found
    if form.startswith("a"):
        return [each async for each in found][-1]
    return list(found)[-1]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["tool", "schema", "strict schema"])
async def test_each_form_fills_the_class_and_costs_what_was_billed(form, by, llm_on, lunar_sandbox):
    told = {
        "tool": {},
        "schema": {"should_use_structured_outputs": True},
        "strict schema": {"should_use_structured_outputs": True, "strict": True},
    }[by]
    with lunar_cost() as costs:
        assert await predict(llm_on(lunar_sandbox, **told), form) == SONG
    assert costs.total_cost == lunar_sandbox.total_billed() > 0
    body = request_body(lunar_sandbox.requests()[0])
    if by == "tool":
        assert body["tool_choice"] == "required"
        assert body["parallel_tool_calls"] is False
    else:
        described = body["response_format"]["json_schema"]
        assert described["name"] == "Song"
        assert described["strict"] is (by == "strict schema")
        assert described["schema"].get("additionalProperties", True) is not described["strict"]


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_works_on_the_routed_model(form, router, lunar_sandbox):
    assert await predict(router, form) == SONG
    decision, call = lunar_sandbox.requests()
    assert (decision["path"], call["path"]) == ("/v1/router", "/v1/chat/completions")
    assert request_body(call)["tool_choice"] == "required"


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_sends_the_system_prompt(form, llm_on, lunar_sandbox):
    await predict(llm_on(lunar_sandbox, system_prompt="Only facts"), form)
    messages = request_body(lunar_sandbox.requests()[0])["messages"]
    assert [m["content"] for m in messages if m["role"] == "system"] == ["Only facts"]


def answered_in_json(request):
    """SONG as the text of an answer, whole or streamed."""
    text = SONG.model_dump_json()
    if not request.json.get("stream"):
        return reply(json=completion(f"Here it is: {text}"))
    return sse(chunk(text[:20]), chunk(text[20:]), chunk(finish="stop"), DONE)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "told",
    [{"is_function_calling_model": False}, {"pydantic_program_mode": PydanticProgramMode.LLM}],
    ids=["no tools", "the caller's mode"],
)
async def test_models_without_tools_are_prompted(form, told, llm_on, faults):
    faults.decide(answered_in_json)
    assert await predict(llm_on(faults, **told), form) == SONG
    (body,) = faults.bodies
    assert "tools" not in body
    assert (
        json.dumps(Song.model_json_schema(), ensure_ascii=False) in body["messages"][0]["content"]
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("calls_tools", [True, False])
async def test_the_callers_prompt_and_arguments_stay_as_they_are(
    form, calls_tools, llm_on, lunar_sandbox
):
    llm = llm_on(lunar_sandbox, is_function_calling_model=calls_tools)
    prompt = PromptTemplate("The song is {title}")
    llm_kwargs = {"max_tokens": 500, "tool_choice": "required"}
    if not calls_tools:
        del llm_kwargs["tool_choice"]
    await predict(llm, form, prompt, llm_kwargs=llm_kwargs)
    assert prompt.output_parser is None
    assert prompt.format(title="x") == "The song is x"
    assert llm_kwargs["max_tokens"] == 500
    assert request_body(lunar_sandbox.requests()[0])["max_tokens"] == 500


@pytest.mark.parametrize("form", FORMS)
async def test_arguments_of_a_call_reach_the_service_and_may_choose_the_tool(
    form, llm, lunar_sandbox
):
    await predict(llm, form, llm_kwargs={"temperature": 0.3, "tool_choice": "Song"})
    body = request_body(lunar_sandbox.requests()[0])
    assert body["temperature"] == 0.3
    assert body["tool_choice"] == {"type": "function", "function": {"name": "Song"}}


@pytest.mark.parametrize("form", FORMS)
async def test_each_form_tells_its_start_and_its_end(form, llm, recorder):
    await predict(llm, form)
    assert len(recorder.of(LLMStructuredPredictStartEvent)) == 1
    (end,) = recorder.of(LLMStructuredPredictEndEvent)
    assert end.output == SONG
    assert len(recorder.of(LLMChatEndEvent)) == len(recorder.usage) == 1


def test_a_stream_of_objects_grows(llm):
    seen = [each.model_dump() for each in llm.stream_structured_predict(Song, PROMPT, title="Blue")]
    assert len({str(each) for each in seen}) > 2
    assert seen[-1] == SONG.model_dump()


def test_strings_of_streamed_objects_grow_too(llm_on, faults):
    def piece(arguments, **opening):
        call = {"index": 0, **opening, "function": {"arguments": arguments}}
        call["function"] |= {"name": "Song"} if opening else {}
        return chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}}])

    faults.always(
        sse(
            piece('{"title": "Bl', id="a", type="function"),
            piece('ue", "artist": "Ann", "year": 1990}'),
            chunk(finish="tool_calls"),
            DONE,
        )
    )
    objects = list(llm_on(faults).stream_structured_predict(Song, PROMPT, title="Blue"))
    assert [each.title for each in objects] == ["Bl", "Blue", "Blue"]
    assert objects[-1] == SONG


@pytest.mark.parametrize("form", ["structured_predict", "astructured_predict"])
async def test_an_answer_that_does_not_fit_is_an_error(form, llm_on, faults):
    call = {
        "id": "a",
        "type": "function",
        "function": {"name": "Song", "arguments": '{"title": 1}'},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    faults.script(
        reply(json=completion(choices=[{"index": 0, "message": message}])),
        reply(json=completion("no tool at all")),
    )
    for _ in range(2):
        with pytest.raises((ValueError, TypeError)):
            await predict(llm_on(faults), form)


def test_the_name_of_a_schema_is_one_that_the_api_takes(llm_on, lunar_sandbox):
    class Odd(BaseModel):
        model_config = {"title": "Song [of the year]"}
        title: str

    llm = llm_on(lunar_sandbox, should_use_structured_outputs=True)
    assert llm.structured_predict(Odd, PROMPT, title="Blue").title == "Blue"
    schema = request_body(lunar_sandbox.requests()[0])["response_format"]["json_schema"]
    assert schema["name"] == "Song__of_the_year_"


def test_strict_schemas_close_every_object(llm_on, lunar_sandbox):
    class Track(BaseModel):
        title: str
        default: int = 3

    class Album(BaseModel):
        tracks: list[Track]
        name: str | None = None

    llm = llm_on(lunar_sandbox, should_use_structured_outputs=True, strict=True)
    llm.structured_predict(Album, PROMPT, title="Blue")
    schema = request_body(lunar_sandbox.requests()[0])["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["tracks", "name"]
    track = schema["$defs"]["Track"]
    assert track["required"] == [
        "title",
        "default",
    ]  # a field may be called like a word of JSON schema
    assert track["additionalProperties"] is False


# LlamaIndex's StructuredLLM still says `.json()`.
@pytest.mark.filterwarnings("ignore:The `json` method is deprecated:DeprecationWarning")
@pytest.mark.parametrize("endpoint", ["chat", "achat", "stream_chat", "astream_chat", "complete"])
async def test_a_structured_llm_answers_in_json_and_costs_once(endpoint, llm_on, lunar_sandbox):
    callback = LunarCostCallback()
    llm = llm_on(lunar_sandbox, callback_manager=CallbackManager([callback]))
    structured = llm.as_structured_llm(Song)
    structured.callback_manager = CallbackManager([callback])
    said = 'The song is "Blue" by "Ann", year 1990.'
    with lunar_cost() as costs:
        answer = getattr(structured, endpoint)(said if endpoint == "complete" else user(said))
        answer = await answer if endpoint.startswith("a") else answer
        if endpoint == "stream_chat":
            answer = list(answer)[-1]
        elif endpoint == "astream_chat":
            answer = [each async for each in answer][-1]
    assert answer.raw == SONG
    assert costs.total_cost == callback.total_cost == lunar_sandbox.total_billed()
    assert len(costs.ledger) == len(callback.ledger) == 1


def test_messages_with_braces_are_sent_as_they_are(llm, lunar_sandbox):
    prompt = ChatPromptTemplate([ChatMessage('Song "Blue" in {"json": 1}', role="user")])
    llm.structured_predict(Song, prompt)
    sent = request_body(lunar_sandbox.requests()[0])["messages"][0]["content"]
    assert sent == 'Song "Blue" in {"json": 1}'


def test_several_objects_may_be_asked_for(llm):
    from llama_index.core.program import FunctionCallingProgram

    program = FunctionCallingProgram.from_defaults(
        output_cls=Song,
        llm=llm,
        prompt=PROMPT,
        allow_parallel_tool_calls=True,
    )
    assert program(title="Blue") == [SONG]
