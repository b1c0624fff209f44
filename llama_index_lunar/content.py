"""Turns the blocks of LlamaIndex's messages into ``content`` of the API's.

Pure, except that LlamaIndex reads the file or URL of a block that only names one.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from io import IOBase
from pathlib import Path
from typing import Any

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)

from lunar_core.errors import ConfigurationError

JSONObject = dict[str, Any]


def to_content(blocks: Iterable[object], place: str = "messages") -> str | list[JSONObject]:
    """Blocks as ``content``: a string if that is enough, else a list of parts.

    ``place``: where in the conversation they are, for errors. Raises ConfigurationError for a block that the API cannot
    carry.
    """
    parts: list[JSONObject] = []
    for block in blocks:
        if isinstance(block, CachePoint):
            _mark_cached(parts, block)
        else:
            parts.extend(_to_parts(block, place))
    return _as_content(parts)


def to_assistant_content(
    blocks: Iterable[object], place: str = "messages"
) -> str | list[JSONObject]:
    """The same for an assistant's turn, of which the API takes only text.

    Images, sounds and other blocks there are records of what was made or done. Spoken words are in its text too.
    """
    parts: list[JSONObject] = []
    for block in blocks:
        if isinstance(block, CachePoint):
            _mark_cached(parts, block)
        elif isinstance(block, (TextBlock, CitableBlock, CitationBlock)):
            parts.extend(part for part in _to_parts(block, place) if part["type"] == "text")
    return _as_content(parts)


def _as_content(parts: list[JSONObject]) -> str | list[JSONObject]:
    if all(part.keys() == {"type", "text"} for part in parts):
        return "\n".join(part["text"] for part in parts)
    return [part for part in parts if part.get("text") != ""]


def _to_parts(block: object, place: str) -> list[JSONObject]:
    """The parts of one block. None for tool calls, which have a field of their own, and for reasoning."""
    for kind, convert in _BLOCKS.items():
        if isinstance(block, kind):
            return convert(block, place)
    raise ConfigurationError(f"{place}: the API has no place for a {type(block).__name__}")


def _mark_cached(parts: list[JSONObject], point: CachePoint) -> None:
    """Mark the part before ``point``: everything up to it may be cached."""
    if parts:
        control = point.cache_control
        mark = {"type": control.type}
        if control.ttl != "5m":  # the default
            mark["ttl"] = control.ttl
        parts[-1] = {**parts[-1], "cache_control": mark}


# Blocks


def _text(block: TextBlock, _place: str) -> list[JSONObject]:
    return [{"type": "text", "text": block.text}]


def _image(block: ImageBlock, _place: str) -> list[JSONObject]:
    if block.url and not block.image:
        url = str(block.url)
    else:
        url = f"data:{block.image_mimetype or 'image/png'};base64,{_base64(block.resolve_image())}"
    image: JSONObject = {"url": url}
    if block.detail:
        image["detail"] = block.detail
    return [{"type": "image_url", "image_url": image}]


def _audio(block: AudioBlock, _place: str) -> list[JSONObject]:
    # ``audio/webm;codecs=opus`` is webm.
    form = (block.format or "wav").lower().partition(";")[0].rpartition("/")[2]
    audio = {"data": _base64(block.resolve_audio()), "format": {"mpeg": "mp3"}.get(form, form)}
    return [{"type": "input_audio", "input_audio": audio}]


def _video(block: VideoBlock, _place: str) -> list[JSONObject]:
    if block.url and not block.video:
        url = str(block.url)
    else:
        url = f"data:{block.video_mimetype or 'video/mp4'};base64,{_base64(block.resolve_video())}"
    return [{"type": "video_url", "video_url": {"url": url}}]


def _document(block: DocumentBlock, _place: str) -> list[JSONObject]:
    raw, kind = _bytes(block.resolve_document()), block.document_mimetype or "application/pdf"
    if kind.startswith("text/"):
        return [{"type": "text", "text": raw.decode("utf-8", "replace")}]
    data = base64.b64encode(raw).decode("ascii")
    file = {"filename": _filename(block), "file_data": f"data:{kind};base64,{data}"}
    return [{"type": "file", "file": file}]


def _filename(block: DocumentBlock) -> str:
    """The block's title, or the name in its path or URL if the title is LlamaIndex's placeholder."""
    place = block.path or block.url
    if place and block.title in (None, "input_document"):
        return Path(str(place)).name
    return block.title or "document"


def _citable(block: CitableBlock, place: str) -> list[JSONObject]:
    return [part for inner in block.content for part in _to_parts(inner, place)]


def _citation(block: CitationBlock, place: str) -> list[JSONObject]:
    return _to_parts(block.cited_content, place)


def _nothing(_block: object, _place: str) -> list[JSONObject]:
    return []


def _base64(stream: IOBase) -> str:
    return base64.b64encode(_bytes(stream)).decode("ascii")


def _bytes(stream: IOBase) -> bytes:
    stream.seek(0)  # the caller may have read from the file before
    return bytes(stream.read())


_BLOCKS: dict[type, Callable[[Any, str], list[JSONObject]]] = {
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
