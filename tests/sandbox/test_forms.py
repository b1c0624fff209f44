"""Prompts that ask for JSON in words get it, in the form that they show."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.evaluation import CorrectnessEvaluator
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.question_gen import LLMQuestionGenerator
from llama_index.core.schema import QueryBundle
from llama_index.core.selectors import LLMMultiSelector, LLMSingleSelector
from llama_index.core.tools import ToolMetadata
from pydantic import BaseModel, TypeAdapter

from llama_index_lunar import LunarLLM
from lunar_core.sandbox.forms import answer_in_form

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer(text: str) -> Any:
    form = answer_in_form(text, text)
    return None if form is None else json.loads(form)


@pytest.mark.parametrize(
    ("prompt", "value"),
    [
        ('Answer in JSON like {"city": "Paris", "days": 1}. Plan 4 days in Lisbon.',
         {"city": "Lisbon", "days": 4}),
        ('"I hated it." Reply with JSON: {"mood": "good", "code": "NO_CODE", "tags": []}',
         {"mood": "I hated it.", "code": "NO_CODE", "tags": []}),
        ('Rank “A”. Output only JSON:\n[\n  {\n    item: 1,\n    why: "<the reason>"\n  },\n  ...\n]',
         [{"item": 1, "why": "A"}]),
        ('Respond with a JSON object. {{"done": true, "note": null}}', {"done": True, "note": None}),
        ('Write JSON like {"name": "Bob", "age": 7}. This is Ada, at the age of 36.',
         {"name": "Ada", "age": 36}),
    ],
)  # fmt: skip
def test_the_json_that_is_shown_is_the_form(prompt: str, value: Any) -> None:
    assert answer(prompt) == value


@pytest.mark.parametrize(
    "prompt",
    [
        'Summarize {"a": 1}',
        "Answer in JSON.",
        'The tool takes JSON, for instance {"x": 1}. Start with a thought.',
        "Return JSON like {} or []",
        "{[}] Return JSON {",
        "",
    ],
)
def test_where_no_form_is_asked_for_there_is_none(prompt: str) -> None:
    assert answer(prompt) is None


def test_a_heading_asks_for_what_stood_below_it_before() -> None:
    prompt = """Extract.

Input: Bob, 7
Output:
{"name": "Bob", "unit": "YEARS"}

Input: the file of 'Ada' {"other": 3}
Output:
"""
    assert answer(prompt) == {"name": "Ada", "unit": "YEARS"}


def test_a_name_out_of_the_examples_json_becomes_one_out_of_the_prompts() -> None:
    prompt = """Choose, in json.
Options:
{"uber": "about cars", "lyft": "about rides"}
Answer:
{"items": [{"option": "lyft"}, {"option": "uber"}]}
Options:
{"cats": "about cats", "dogs": "about dogs"}
Which of the dogs?
Answer:
"""
    assert answer(prompt) == {"items": [{"option": "dogs"}]}


def test_an_example_response_is_the_answer() -> None:
    system = "Judge.\nExample Response:\n4.0\nIt is right.\n\nGo."
    assert answer_in_form(system, "Is it?") == "4.0\nIt is right."


def test_a_schema_in_the_prompt_is_obeyed_and_its_own_words_are_no_values() -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": "}|^[A-Z]"}}, "required": ["a"]}
    example = '{"properties": {"foo": {}}} is well-formed; {"foo": 1} too'
    text = (
        f"It is Ada.\nLike so: {example}.\n```\n{TypeAdapter(dict).dump_json(schema).decode()}\n```"
    )
    assert answer(text) == {"a": "Ada"}
    for none in (
        'no {"properties": 3} here',
        '{"properties": {',
        '{"properties": {"a": {"enum": []}}}',
    ):
        assert answer(none) is None  # fmt: skip


@given(st.text('{}[]":,.|ab1 \nJSON\\/#<>', max_size=80))
def test_any_text_is_read(text: str) -> None:
    form = answer_in_form(f"Return JSON {text}", text)
    assert form is None or isinstance(json.loads(form), dict | list)


# What asks in this way


@pytest.fixture
def llm(lunar_sandbox_env: Any) -> Iterator[LunarLLM]:
    del lunar_sandbox_env
    llm = LunarLLM(model="gpt-4o-mini")
    yield llm
    llm.close()


CHOICES = [
    ToolMetadata(name="cats", description="All about 9 cats"),
    ToolMetadata(name="dogs", description="All about dogs"),
]


@pytest.mark.parametrize("selector", [LLMSingleSelector, LLMMultiSelector])
def test_a_selector_selects(selector: Any, llm: LunarLLM) -> None:
    result = selector.from_defaults(llm=llm).select(CHOICES, "What do 9 dogs eat?")
    assert [selection.index for selection in result.selections] == [0]
    assert result.selections[0].reason == "What do 9 dogs eat?"


def test_a_question_generator_asks_a_tool_that_there_is(llm: LunarLLM) -> None:
    generator = LLMQuestionGenerator.from_defaults(llm=llm)
    (question,) = generator.generate(CHOICES, QueryBundle("Compare dogs and wolves"))
    assert (question.sub_question, question.tool_name) == ("Compare dogs and wolves", "dogs")


class Album(BaseModel):
    """An album."""

    name: str
    artist: str


def test_a_text_completion_program_gives_its_object(llm: LunarLLM) -> None:
    program = LLMTextCompletionProgram.from_defaults(
        output_cls=Album, prompt_template_str="The album 'Blue' by Joni Mitchell", llm=llm
    )
    assert program() == Album(name="Blue", artist="Joni Mitchell")


async def test_an_evaluator_gets_its_score(llm: LunarLLM) -> None:
    result = await CorrectnessEvaluator(llm=llm).aevaluate(query="q", response="r", reference="s")
    await llm.aclose()
    assert result.score == 4.0
