"""What both frameworks' layers share: which chunks of a stream they need not look at closely."""

import pytest

from lunar_core.bridge import PlainTexts, find_reasoning


def chunk(text="a", *, delta=None, finish=None, **fields):
    choice = {"index": 0, "delta": {"content": text} if delta is None else delta}
    return {"id": "c", "model": "m", "choices": [{**choice, "finish_reason": finish}], **fields}


def after(*seen):
    """One that has looked at these."""
    plain = PlainTexts()
    for each in seen:
        plain.unread(each)
    return plain


def test_the_first_chunk_of_a_stream_is_always_looked_at():
    assert PlainTexts().text(chunk("Hel")) is None


def test_text_like_that_before_is_all_that_a_chunk_says():
    plain = after(chunk("Hel"))
    assert [plain.text(chunk("lo")), plain.text(chunk(" you"))] == ["lo", " you"]


@pytest.mark.parametrize(
    "odd",
    [
        chunk("a", finish="stop"),
        chunk("a", usage={"total_tokens": 1}),
        chunk("a", routing={"selected_model": "m"}),
        chunk("a", provider="openai"),
        chunk(delta={"content": "a", "role": "assistant"}),
        chunk(delta={"reasoning_content": "a"}),
        chunk(delta={"content": None}),
        chunk(""),
        chunk(delta={"content": [{"type": "text", "text": "a"}]}),
        {"id": "c", "model": "m", "choices": [{"text": "a"}]},
        {"id": "c", "model": "m", "choices": [{"index": 1, "delta": {"content": "a"}}]},
        {"id": "c", "model": "m", "choices": [{"delta": {"content": "a"}, "logprobs": {}}]},
        {"choices": [{"delta": {"content": "a"}}]},
    ],
    ids=repr,
)
def test_whatever_else_a_chunk_says_is_looked_at(odd):
    assert after(chunk()).text(odd) is None


def test_fields_that_may_be_there_empty_are_no_news():
    usual = {"usage": None, "routing": None}
    assert after(chunk(**usual)).text(chunk("b", **usual)) == "b"
    assert after(chunk(**usual)).text(chunk("b", usage={"total_tokens": 1}, routing=None)) is None


def test_the_last_chunk_that_was_passed_over_is_looked_at_before_the_next():
    first, second, third = chunk("1"), chunk("2", model="other"), chunk("3", finish="stop")
    plain = after(first)
    assert plain.text(chunk("x")) == "x"
    assert plain.text(second) == "2"
    assert plain.unread(third) == [second, third]
    assert plain.unread() == []


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"reasoning_content": "hm"}, "hm"),
        ({"reasoning": "hm"}, "hm"),
        ({"reasoning_content": "", "reasoning": "hm"}, "hm"),
        ({"reasoning_content": {"parts": []}}, ""),
        ({}, ""),
    ],
)
def test_reasoning_goes_by_two_names(message, reasoning):
    assert find_reasoning(message) == reasoning
