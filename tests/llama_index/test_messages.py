"""LlamaIndex's messages in the form of the API."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from llama_index_lunar.content import to_content
from llama_index_lunar.messages import to_wire
from lunar_core import ConfigurationError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def message(*blocks, role="user", **extra):
    return ChatMessage(role=role, blocks=list(blocks), additional_kwargs=extra)


def content(*blocks):
    return to_wire([message(*blocks)])[0]["content"]


@pytest.mark.parametrize(
    ("role", "sent"),
    [
        (MessageRole.SYSTEM, "system"),
        (MessageRole.DEVELOPER, "system"),
        (MessageRole.USER, "user"),
        (MessageRole.ASSISTANT, "assistant"),
        (MessageRole.CHATBOT, "assistant"),
        (MessageRole.MODEL, "assistant"),
    ],
)
def test_every_role_has_one_that_the_api_knows(role, sent):
    assert to_wire([ChatMessage("hi", role=role)]) == [{"role": sent, "content": "hi"}]


def test_text_alone_is_sent_as_a_string():
    assert content(TextBlock(text="one"), TextBlock(text="two")) == "one\ntwo"
    assert content() == ""


def test_nothing_but_the_name_of_what_lies_in_additional_kwargs_is_sent():
    (sent,) = to_wire([message(TextBlock(text="hi"), name="ann", usage={"a": 1}, ref_doc_id="x")])
    assert sent == {"role": "user", "content": "hi", "name": "ann"}


@pytest.mark.parametrize(
    "block",
    [
        lambda path: ImageBlock(image=PNG),
        lambda path: ImageBlock(image=base64.b64encode(PNG), image_mimetype="image/png"),
        lambda path: ImageBlock(path=path),
        lambda path: ImageBlock(url=PNG_URL),
    ],
    ids=["bytes", "base64", "path", "data url"],
)
def test_an_image_is_sent_as_a_data_url(block, tmp_path):
    path = tmp_path / "dot.png"
    path.write_bytes(PNG)
    (text, image) = content(TextBlock(text="What is it?"), block(path))
    assert text == {"type": "text", "text": "What is it?"}
    assert image == {"type": "image_url", "image_url": {"url": PNG_URL}}


def test_an_image_on_the_web_is_sent_as_its_url():
    url = "https://example.com/cat.jpg"
    (image,) = content(ImageBlock(url=url, detail="low"))
    assert image == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}


def test_images_of_old_additional_kwargs_become_blocks():
    from llama_index.core.schema import ImageDocument

    document = ImageDocument(image=base64.b64encode(PNG).decode())
    sent = to_wire([ChatMessage("look", additional_kwargs={"images": [document]})])
    assert [part["type"] for part in sent[0]["content"]] == ["text", "image_url"]


def test_audio_is_sent_with_its_format():
    sound = AudioBlock(audio=b"RIFF....WAVE", format="mpeg")
    data = base64.b64encode(b"RIFF....WAVE").decode()
    assert content(sound) == [
        {"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}
    ]


def test_a_document_is_sent_as_a_file(tmp_path):
    pdf = b"%PDF-1.4 ..."
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf)
    data = f"data:application/pdf;base64,{base64.b64encode(pdf).decode()}"
    named = {"type": "file", "file": {"filename": "q3", "file_data": data}}
    assert content(DocumentBlock(data=pdf, title="q3")) == [named]
    (by_path,) = content(DocumentBlock(path=str(path)))
    assert by_path["file"] == {"filename": "report.pdf", "file_data": data}


def test_a_document_of_text_is_sent_as_text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("remember", encoding="utf-8")
    block = DocumentBlock(path=str(path), document_mimetype="text/plain")
    assert content(block) == "remember"


def test_a_video_is_sent_as_a_url():
    url = "https://example.com/cat.mp4"
    assert content(VideoBlock(url=url)) == [{"type": "video_url", "video_url": {"url": url}}]


def test_citable_and_cited_text_is_sent_as_what_it_says():
    citable = CitableBlock(title="t", source="s", content="a fact")
    cited = CitationBlock(
        cited_content="quoted", source="s", title="t", additional_location_info={}
    )
    assert content(citable, cited) == "a fact\nquoted"


def test_thoughts_are_not_sent_back():
    sent = message(ThinkingBlock(content="hm"), TextBlock(text="yes"), role="assistant")
    assert to_wire([sent]) == [{"role": "assistant", "content": "yes"}]


def test_a_cache_point_marks_what_stands_before_it():
    point = CachePoint(cache_control={"type": "ephemeral"})
    hour = CachePoint(cache_control={"type": "ephemeral", "ttl": "1h"})
    assert content(TextBlock(text="long"), point, TextBlock(text="short"), hour) == [
        {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "short", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert content(point, TextBlock(text="nothing before")) == "nothing before"


def test_a_block_of_an_unknown_kind_is_named():
    with pytest.raises(ConfigurationError, match=r"messages\[3\]: .* SimpleNamespace"):
        to_content([SimpleNamespace()], "messages[3]")


CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "f", "arguments": '{"a": 1}'},
}


@pytest.mark.parametrize(
    "spoken",
    [
        message(
            ToolCallBlock(tool_call_id="call_1", tool_name="f", tool_kwargs='{"a": 1}'),
            role="assistant",
        ),
        message(
            ToolCallBlock(tool_call_id="call_1", tool_name="f", tool_kwargs={"a": 1}),
            role="assistant",
        ),
        message(role="assistant", tool_calls=[CALL]),
        message(
            role="assistant",
            tool_calls=[
                SimpleNamespace(
                    id="call_1",
                    type="function",
                    function=SimpleNamespace(name="f", arguments='{"a": 1}'),
                )
            ],
        ),
        message(
            role="assistant",
            tool_calls=[{"id": "call_1", "function": {"name": "f", "arguments": {"a": 1}}}],
        ),
        message(  # both: the same call, said twice
            ToolCallBlock(tool_call_id="call_1", tool_name="f", tool_kwargs={"a": 1}),
            role="assistant",
            tool_calls=[CALL],
        ),
    ],
    ids=["text", "dict", "plain dicts", "objects", "dict arguments", "blocks and dicts"],
)
def test_tool_calls_are_read_in_every_form(spoken):
    assert to_wire([spoken]) == [{"role": "assistant", "content": "", "tool_calls": [CALL]}]


def test_a_tool_call_without_arguments_gets_an_empty_object():
    call = ToolCallBlock(tool_call_id="x", tool_name="f", tool_kwargs="")
    (sent,) = to_wire([message(call, role="assistant")])
    assert sent["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_tool_result_names_its_call():
    history = [
        message(role="assistant", tool_calls=[CALL]),
        message(TextBlock(text="done"), role="tool", tool_call_id="call_1"),
        message(TextBlock(text="so"), role="assistant", tool_call_id="call_1"),
    ]
    _, result, direct = to_wire(history)
    assert result == {"role": "tool", "content": "done", "tool_call_id": "call_1"}
    assert direct == {"role": "assistant", "content": "so"}


def calls_and_results(*ids, names=("f", "g")):
    calls = [ToolCallBlock(tool_call_id=None, tool_name=name, tool_kwargs={}) for name in names]
    results = [message(TextBlock(text=str(i)), role="tool", tool_call_id=i) for i in ids]
    return to_wire([ChatMessage("hi"), message(*calls, role="assistant"), *results])


@pytest.mark.parametrize(
    "ids",
    [(None, None), ("", ""), ("g", "f")],
    ids=["no ids", "empty ids", "the tool's name for an id"],
)
def test_calls_of_vendors_without_ids_are_matched_with_their_results(ids):
    _, asked, first, second = calls_and_results(*ids)
    made = {call["function"]["name"]: call["id"] for call in asked["tool_calls"]}
    assert len(set(made.values())) == 2
    expected = ("g", "f") if ids[0] == "g" else ("f", "g")
    assert (first["tool_call_id"], second["tool_call_id"]) == tuple(made[n] for n in expected)


def test_the_messages_themselves_stay_as_they_are():
    history = [
        message(ToolCallBlock(tool_name="f"), role="assistant"),
        message(TextBlock(text="1"), role="tool"),
    ]
    before = [each.model_copy(deep=True) for each in history]
    to_wire(history)
    assert history == before


@pytest.mark.skipif(
    "IOBase" not in str(ImageBlock.model_fields["image"].annotation),
    reason="blocks of this LlamaIndex take no streams yet",
)
def test_a_stream_that_was_read_before_is_read_from_its_beginning():
    stream = io.BytesIO(PNG)
    stream.read()
    assert (
        content(ImageBlock(image=stream, image_mimetype="image/png"))[0]["image_url"]["url"]
        == PNG_URL
    )
