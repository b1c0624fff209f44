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
from pydantic import BaseModel, Field, model_validator

from llama_index_lunar import LunarCostCallback, lunar_cost
from tests.faults_steps import DONE, chunk, completion, hang, reply, sse
from tests.llama_index.support import request_body, until, user

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


def saying(text):
    """A service that says `text`, whole or streamed, in a chat or a text completion, and knows no tools."""
    pieces = [text[i : i + 20] for i in range(0, len(text), 20)]

    def answer(request):
        of_text = request.path == "/v1/completions"
        if request.json.get("stream"):
            told = [
                chunk(choices=[{"index": 0, "text": each}]) if of_text else chunk(each)
                for each in pieces
            ]
            return sse(*told, chunk(finish="stop"), DONE)
        whole = {"index": 0, "text": text, "finish_reason": "stop"}
        return reply(json=completion(text, **({"choices": [whole]} if of_text else {})))

    return answer


IN_WORDS = f"Here it is:\n```json\n{SONG.model_dump_json(indent=1)}\n```\nA fine song."


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "told",
    [
        {"is_function_calling_model": False},
        {"pydantic_program_mode": PydanticProgramMode.LLM},
        {"is_function_calling_model": False, "is_chat_model": False},
    ],
    ids=["no tools", "the caller's mode", "a text model"],
)
async def test_models_without_tools_are_prompted(form, told, llm_on, faults):
    faults.decide(saying(IN_WORDS))
    llm = llm_on(faults, system_prompt="Only facts", **told)
    assert await predict(llm, form) == SONG
    (body,) = faults.bodies
    assert "tools" not in body
    said = body.get("prompt") or "\n".join(each["content"] for each in body["messages"])
    assert json.dumps(Song.model_json_schema(), ensure_ascii=False) in said
    assert "Only facts" in said


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


def test_a_validator_may_stumble_over_fields_that_have_not_come_yet(llm):
    class Labelled(Song):
        label: str = ""

        @model_validator(mode="before")
        @classmethod
        def with_label(cls, data):
            return {**data, "label": data["title"] + data["artist"]}  # a KeyError at first

    *growing, last = llm.stream_structured_predict(Labelled, PROMPT, title="Blue")
    assert last == Labelled(title="Blue", artist="Ann", year=1990)
    assert not isinstance(growing[0], Labelled)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "told",
    [
        {},
        {"should_use_structured_outputs": True},
        {"is_function_calling_model": False},
        {"is_function_calling_model": False, "is_chat_model": False},
    ],
    ids=["tool", "schema", "prompt", "text"],
)
async def test_an_answer_in_prose_is_an_error_in_every_form(form, told, llm_on, faults):
    """Not least with a service that ignores tools and formats: streams would end in an object without fields."""
    faults.decide(saying("No song today."))
    with pytest.raises(ValueError, match="No song today"):
        await predict(llm_on(faults, **told), form)


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


@pytest.mark.parametrize("endpoint", ["chat", "achat", "stream_chat", "astream_chat", "complete"])
@pytest.mark.parametrize("listens", ["outside", "inside", "both"])
async def test_a_structured_llm_answers_in_json_and_costs_once(
    endpoint, listens, llm_on, lunar_sandbox, recorder
):
    """Settings gives its callback manager to the structured LLM alone, not to the one inside."""
    callback = LunarCostCallback()
    manager, silent = CallbackManager([callback]), CallbackManager([])
    llm = llm_on(lunar_sandbox, callback_manager=silent if listens == "outside" else manager)
    structured = llm.as_structured_llm(Song)
    structured.callback_manager = silent if listens == "inside" else manager
    said = 'The song is "Blue" by "Ann", year 1990.'
    with lunar_cost() as costs:
        answer = getattr(structured, endpoint)(said if endpoint == "complete" else user(said))
        answer = await answer if endpoint.startswith("a") else answer
        if endpoint == "stream_chat":
            answer = list(answer)[-1]
        elif endpoint == "astream_chat":
            answer = [each async for each in answer][-1]
    assert answer.raw == SONG
    assert (
        Song.model_validate_json(answer.text if endpoint == "complete" else answer.message.content)
        == SONG
    )
    assert costs.total_cost == callback.total_cost == lunar_sandbox.total_billed()
    assert len(costs.ledger) == len(callback.ledger) == len(recorder.usage) == 1


STREAMS_OF_OBJECTS = {
    "stream_structured_predict": lambda llm: llm.stream_structured_predict(
        Song, PROMPT, title="Blue"
    ),
    "astream_structured_predict": lambda llm: llm.astream_structured_predict(
        Song, PROMPT, title="Blue"
    ),
    "stream_chat": lambda llm: llm.as_structured_llm(Song).stream_chat(user("Blue")),
    "astream_chat": lambda llm: llm.as_structured_llm(Song).astream_chat(user("Blue")),
}


@pytest.mark.parametrize("form", STREAMS_OF_OBJECTS)
async def test_a_stream_of_objects_is_booked_where_it_was_asked_for(form, llm, lunar_sandbox):
    with lunar_cost(tags={"tenant": "acme"}) as costs:
        objects = STREAMS_OF_OBJECTS[form](llm)
        objects = await objects if form.startswith("a") else objects
    assert len(lunar_sandbox.requests()) == 1  # asked at once, not at the first read
    with lunar_cost() as others:
        if form.startswith("a"):
            assert [each async for each in objects]
        else:
            assert list(objects)
    assert costs.by_tag("tenant")["acme"].cost == lunar_sandbox.total_billed() > 0
    assert len(others.ledger) == 0


@pytest.mark.parametrize("form", STREAMS_OF_OBJECTS)
async def test_a_stream_of_objects_that_is_left_frees_its_connection(
    form, llm_on, faults, recorder
):
    call = {"index": 0, "id": "a", "function": {"name": "Song", "arguments": '{"title": "B'}}
    faults.always(sse(chunk(choices=[{"index": 0, "delta": {"tool_calls": [call]}}]), hang))
    objects = STREAMS_OF_OBJECTS[form](llm_on(faults))
    if form.startswith("a"):
        objects = await objects
        await anext(objects)
        await objects.aclose()
    else:
        next(objects)
        objects.close()
    await until(lambda: faults.open == 0)
    (event,) = recorder.usage
    assert (event.status, event.partial) == ("aborted", True)


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
