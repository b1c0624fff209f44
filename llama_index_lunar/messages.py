"""LlamaIndex's messages → the API's. Pure, but for blocks that only name a file or a URL: the framework reads those."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import IOBase
from pathlib import Path
from typing import Any, cast

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

from lunar_core.errors import ConfigurationError

JSONObject = dict[str, Any]

# The API knows system, user, assistant and tool.
_ROLES = {
    MessageRole.DEVELOPER: "system",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.FUNCTION: "tool",
}

# The API takes no sounds and pictures of an assistant's; what it has spoken stands beside it in words.
_NOT_OF_ASSISTANTS = (AudioBlock, ImageBlock, VideoBlock)


def to_wire(messages: Sequence[ChatMessage]) -> list[JSONObject]:
    """A conversation in the form of the API. The messages themselves stay as they are.

    Only a message's role, its blocks, its name and its tool calls are sent: nothing else of what memories
    and other vendors' classes leave in ``additional_kwargs``. Tool calls and their results are matched where
    another vendor gave them no ids. Raises ConfigurationError for a block that the API has no place for.
    """
    return _paired([to_message(message) for message in messages])


def to_message(message: ChatMessage) -> JSONObject:
    """One message, on its own."""
    role = _ROLES.get(message.role, message.role.value)
    extra, blocks = message.additional_kwargs, message.blocks
    if role == "assistant":
        blocks = [block for block in blocks if not isinstance(block, _NOT_OF_ASSISTANTS)]
    wire: JSONObject = {"role": role, "content": to_content(blocks)}
    name = extra.get("name")
    if isinstance(name, str) and name:
        wire["name"] = name
    if role == "assistant":
        calls = tool_calls_of(message)
        if calls:
            wire["tool_calls"] = calls  # beside "" at least: the service was seen to refuse null
    elif role == "tool":
        wire["tool_call_id"] = extra.get("tool_call_id") or ""
    return wire


def to_content(blocks: Iterable[object]) -> str | list[JSONObject]:
    """Blocks as ``content``: a string wherever a string says it all, else a list of parts."""
    parts: list[JSONObject] = []
    for block in blocks:
        if isinstance(block, CachePoint):
            _mark_cached(parts, block)
        else:
            parts.extend(to_parts(block))
    if all(part.keys() == {"type", "text"} for part in parts):
        return "\n".join(part["text"] for part in parts)
    return [part for part in parts if part.get("text") != ""]


def to_parts(block: object) -> list[JSONObject]:
    """What one block says to the model; nothing for what is said elsewhere (tool calls) or to nobody (thoughts)."""
    for kind, convert in _BLOCKS.items():
        if isinstance(block, kind):
            return convert(block)
    raise ConfigurationError(f"messages: the API has no place for a {type(block).__name__}")


def tool_calls_of(message: ChatMessage) -> list[JSONObject]:
    """The tool calls of an assistant's message as the API writes them.

    They are read from its blocks or, where there are none, from ``tool_calls`` or ``function_call`` of its
    ``additional_kwargs``: dicts, or the objects that other vendors' classes leave there.
    """
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    if blocks:
        return [
            _call(block.tool_call_id, block.tool_name, cast("object", block.tool_kwargs))
            for block in blocks
        ]
    values = message.additional_kwargs.get("tool_calls")
    if not isinstance(values, (list, tuple)):
        values = [message.additional_kwargs.get("function_call")]  # as OpenAI's models once had it
    return [call for call in map(_plain_call, values) if call is not None]


def _plain_call(call: object) -> JSONObject | None:
    function = _field(call, "function")
    name = _field(function, "name") if function is not None else _field(call, "name")
    if not isinstance(name, str):
        return None
    place = call if function is None else function
    return _call(_field(call, "id"), name, _field(place, "arguments"))


def _call(call_id: object, name: str, arguments: object) -> JSONObject:
    if arguments is None or arguments == "":
        arguments = "{}"
    elif not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, default=str)
    function = {"name": name, "arguments": arguments}
    return {"id": call_id or "", "type": "function", "function": function}


def _field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _paired(wire: list[JSONObject]) -> list[JSONObject]:
    """Give ids to the tool calls that have none, and to each result the id of its call.

    Some vendors know no ids and let results follow in the order of the calls, or name the tool instead.
    """
    waiting: list[tuple[str, str]] = []  # id and name of the calls that have no result yet
    for number, message in enumerate(wire):
        if message.get("tool_calls"):
            waiting = []
            for position, call in enumerate(message["tool_calls"]):
                call["id"] = call["id"] or f"call_{number}_{position}"
                waiting.append((call["id"], call["function"]["name"]))
        elif message["role"] == "tool":
            call_of_result = _match(waiting, message["tool_call_id"], message.get("name"))
            if call_of_result is not None:
                waiting.remove(call_of_result)
                message["tool_call_id"] = call_of_result[0]
    return wire


def _match(
    waiting: Sequence[tuple[str, str]], call_id: str, name: str | None
) -> tuple[str, str] | None:
    """The call that a result belongs to: of the same id, else of the same name, else the first that waits."""
    by_id = [call for call in waiting if call[0] == call_id]
    by_name = [call for call in waiting if call[1] in (call_id, name)]
    in_order = [] if call_id else waiting
    return next(iter([*by_id, *by_name, *in_order]), None)


def _mark_cached(parts: list[JSONObject], point: CachePoint) -> None:
    """Everything up to here may be cached: the mark stands on the part before."""
    if parts:
        control = point.cache_control
        mark = {"type": control.type}
        if control.ttl != "5m":  # the default of everyone who knows the field
            mark["ttl"] = control.ttl
        parts[-1] = {**parts[-1], "cache_control": mark}


# Blocks


def _text(block: TextBlock) -> list[JSONObject]:
    return [{"type": "text", "text": block.text}]


def _image(block: ImageBlock) -> list[JSONObject]:
    if block.url and not block.image:
        url = str(block.url)
    else:
        url = f"data:{block.image_mimetype or 'image/png'};base64,{_base64(block.resolve_image())}"
    image: JSONObject = {"url": url}
    if block.detail:
        image["detail"] = block.detail
    return [{"type": "image_url", "image_url": image}]


def _audio(block: AudioBlock) -> list[JSONObject]:
    form = (block.format or "wav").lower()
    audio = {"data": _base64(block.resolve_audio()), "format": {"mpeg": "mp3"}.get(form, form)}
    return [{"type": "input_audio", "input_audio": audio}]


def _video(block: VideoBlock) -> list[JSONObject]:
    if block.url and not block.video:
        url = str(block.url)
    else:
        url = f"data:{block.video_mimetype or 'video/mp4'};base64,{_base64(block.resolve_video())}"
    return [{"type": "video_url", "video_url": {"url": url}}]


def _document(block: DocumentBlock) -> list[JSONObject]:
    raw, kind = _bytes(block.resolve_document()), block.document_mimetype or "application/pdf"
    if kind.startswith("text/"):
        return [{"type": "text", "text": raw.decode("utf-8", "replace")}]
    data = base64.b64encode(raw).decode("ascii")
    file = {"filename": _filename(block), "file_data": f"data:{kind};base64,{data}"}
    return [{"type": "file", "file": file}]


def _filename(block: DocumentBlock) -> str:
    """Its title, or the name in its path or URL where the title is only the framework's filler."""
    place = block.path or block.url
    if place and block.title in (None, "input_document"):
        return Path(str(place)).name
    return block.title or "document"


def _citable(block: CitableBlock) -> list[JSONObject]:
    return [part for inner in block.content for part in to_parts(inner)]


def _citation(block: CitationBlock) -> list[JSONObject]:
    return to_parts(block.cited_content)


def _nothing(_block: object) -> list[JSONObject]:
    return []


def _base64(stream: IOBase) -> str:
    return base64.b64encode(_bytes(stream)).decode("ascii")


def _bytes(stream: IOBase) -> bytes:
    stream.seek(0)  # a caller's own file may have been read before
    return bytes(stream.read())


_BLOCKS: dict[type, Callable[[Any], list[JSONObject]]] = {
    TextBlock: _text,
    ToolCallBlock: _nothing,
    ThinkingBlock: _nothing,
    ImageBlock: _image,
    AudioBlock: _audio,
    VideoBlock: _video,
    DocumentBlock: _document,
    CitableBlock: _citable,
    CitationBlock: _citation,
}
