"""The data of one event of a stream: a chunk, an error, or nothing, whoever asks."""

import json

import pytest

from lunar_core import AnswerFailedError, APIStreamError
from lunar_core.wire.events import chat_chunk, plain_chunk, text_chunk

READERS = {
    "chat": (chat_chunk, {"index": 0, "delta": {"content": "Hel"}}),
    "text": (text_chunk, {"index": 0, "text": "Hel"}),
    "plain chat": (plain_chunk, {"index": 0, "delta": {"content": "Hel"}}),
    "plain text": (plain_chunk, {"index": 0, "text": "Hel"}),
}
pytestmark = pytest.mark.parametrize(("read", "choice"), READERS.values(), ids=READERS)


def payload(**fields):
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "overloaded"}},
        {"error": "overloaded"},
        {"object": "error", "message": "overloaded"},
    ],
    ids=["an object", "a text", "by its kind"],
)
@pytest.mark.parametrize("beside", [True, False], ids=["beside a choice", "alone"])
def test_an_error_is_told_wherever_it_stands(error, beside, read, choice):
    with pytest.raises(APIStreamError, match="overloaded"):
        read(payload(**error, **({"choices": [choice]} if beside else {})))


@pytest.mark.parametrize(
    "told", [{"error": {"code": 502, "message": "died"}}, {"finish_reason": "error"}]
)
def test_so_is_one_in_a_choice(told, read, choice):
    with pytest.raises(AnswerFailedError) as raised:
        read(payload(choices=[{**choice, **told}]))
    assert raised.value.status_code == (502 if "error" in told else None)


def test_a_detail_is_an_error_where_no_choice_is(read, choice):
    with pytest.raises(APIStreamError, match="overloaded"):
        read(payload(detail="overloaded", choices=[]))
    assert read(payload(detail="all well", choices=[choice])) is not None


def test_the_word_error_is_none(read, choice):
    read(payload(choices=[choice], error=None))
    read(payload(choices=[choice], model='an "error"'))
    read(
        payload(choices=[{**choice, "error": {"message": ""}}], error={"message": "", "code": None})
    )


@pytest.mark.parametrize("beat", [b"", b"{}", b'{"type": "ping"}'])
def test_an_event_that_says_nothing_is_no_chunk(beat, read, choice):
    assert read(beat) is None


def test_an_object_of_some_other_kind_is_no_chunk(read, choice):
    with pytest.raises(APIStreamError, match="none of the fields of a chunk"):
        read(payload(greeting="Hello"))


@pytest.mark.parametrize("said", [b"[]", b"7", b'"Hel"', b"{", b"Hel"])
def test_nor_is_what_is_no_object(said, read, choice):
    with pytest.raises(APIStreamError, match="malformed"):
        read(said)


def test_white_space_means_nothing(read, choice):
    assert read(b"") is None
    assert read(b" \n") is None


def test_a_message_in_the_place_of_a_delta_is_one(read, choice):
    named = {("message" if name == "delta" else name): value for name, value in choice.items()}
    assert read(payload(choices=[named])) == read(payload(choices=[choice]))


def test_a_delta_that_says_something_stays_beside_a_message(read, choice):
    chunk = read(payload(choices=[{**choice, "message": {"content": "Hello"}}]))
    told = chunk if isinstance(chunk, dict) else chunk.model_dump()
    told = told["choices"][0]
    assert (told["delta"]["content"] if "delta" in choice else told["text"]) == "Hel"
