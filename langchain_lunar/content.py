"""Turns content blocks of LangChain's messages into parts of the API's. Pure.

Reads LangChain's blocks of v0 (``source_type``) and v1, OpenAI's parts and Anthropic's blocks. Blocks that repeat
another field of the message (tool calls), or are no input (reasoning), are left out. Blocks of other vendors' APIs,
which chat completions cannot carry, are left out of an assistant's turn, where they only record what a vendor's server
did; elsewhere they raise ConfigurationError. An unknown block is sent as it is: the service may know it.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lunar_core.errors import ConfigurationError

Block = Mapping[str, Any]
Part = dict[str, Any]
Content = str | list[Part]

# These repeat the message's own ``tool_calls``, or are the model's reasoning.
LEFT_OUT = frozenset(
    {
        "function_call",
        "input_json_delta",
        "invalid_tool_call",
        "reasoning",
        "reasoning_content",
        "redacted_thinking",
        "server_tool_call",
        "server_tool_call_chunk",
        "server_tool_result",
        "thinking",
        "tool_call",
        "tool_call_chunk",
        "tool_use",
    }
)


FOREIGN = frozenset(
    {
        # Anthropic
        "bash_code_execution_tool_result",
        "code_execution_tool_result",
        "compaction",  # OpenAI's too
        "container_upload",
        "mcp_tool_result",
        "mcp_tool_use",
        "server_tool_use",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "web_fetch_tool_result",
        "web_search_tool_result",
        # OpenAI's Responses
        "apply_patch_call",
        "apply_patch_call_output",
        "code_interpreter_call",
        "computer_call",
        "computer_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "file_search_call",
        "function_call_output",
        "image_generation_call",
        "input_file",
        "input_image",
        "input_text",
        "local_shell_call",
        "local_shell_call_output",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
        "mcp_list_tools",
        "shell_call",
        "shell_call_output",
        "tool_search_call",
        "tool_search_output",
        "web_search_call",
        # Gemini
        "code_execution_result",
        "executable_code",
        "function_call_signature",
        "media",
    }
)
"""Types of blocks of other vendors' APIs, as their classes leave them in a history."""

MEDIA = frozenset({"audio", "file", "image", "image_url", "input_audio", "video"})
"""Types of sounds and images. The API takes none in an assistant's message."""

_COUNTED_AS = {
    "audio": "input_audio",
    "image": "image_url",
    "image_url": "image_url",
    "video": "video_url",
}


def to_assistant_content(content: str | Sequence[str | Block]) -> Content:
    """The ``content`` of an assistant's turn: its words, without media and records of a vendor's server."""
    if isinstance(content, str):
        return content
    return to_content([block for block in content if not _is_record(block)])


def to_countable_content(content: str | Sequence[str | Block]) -> str | list[str | Block]:
    """``content`` for counting tokens: a block that cannot be sent is replaced by one of its kind."""
    if isinstance(content, str):
        return content
    return [_countable(block) for block in content]


def to_content(content: str | Sequence[str | Block]) -> Content:
    """The ``content`` of a message in the form of the API: a string if that is enough, else a list of parts.

    Raises ConfigurationError that names a block that the API cannot carry.
    """
    if isinstance(content, str):
        return content
    parts = [part for block in content if (part := to_part(block)) is not None]
    if not parts:
        return ""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        return str(parts[0]["text"])
    return parts


def to_part(block: str | Block) -> Part | None:
    """One block as one part, or None for a block that is not sent."""
    if isinstance(block, str):
        return {"type": "text", "text": block}
    kind = block.get("type")
    if kind in LEFT_OUT:
        return None
    if _is_foreign(block):
        name = kind or "/".join(map(str, block))
        raise ConfigurationError(f"chat completions have no place for a block of type {name!r}")
    convert = _KINDS.get(kind) if isinstance(kind, str) else None
    if convert is not None:
        return convert(block)
    return _text(block) if kind is None and "text" in block else dict(block)


def _is_foreign(block: Block) -> bool:
    """Whether a block is another vendor's: by its type, or (Bedrock's) by having none."""
    kind = block.get("type")
    return kind in FOREIGN or (kind is None and isinstance(block.get("image"), Mapping))


def _is_record(block: str | Block) -> bool:
    """Whether an assistant's block is a record of what was made or done, and not words."""
    if isinstance(block, str):
        return False
    value = block.get("value") if block.get("type") == "non_standard" else None
    inner: Block = value if isinstance(value, Mapping) else block
    return _is_foreign(inner) or inner.get("type") in MEDIA


def _countable(block: str | Block) -> str | Block:
    try:
        to_part(block)
    except ConfigurationError:
        kind = str(block.get("type")) if isinstance(block, Mapping) else ""
        return {"type": _COUNTED_AS.get(kind, "file"), "file": {}}
    return block


def _text(block: Block) -> Part | None:
    part = {"type": "text", "text": block.get("text") or ""}
    if "cache_control" in block:  # Anthropic's models read it, others ignore it
        part["cache_control"] = block["cache_control"]
    return part


def _refusal(block: Block) -> Part:
    return {"type": "refusal", "refusal": block.get("refusal") or block.get("text") or ""}


def _image_url(block: Block) -> Part:
    url = block.get("image_url")
    return {"type": "image_url", "image_url": {"url": url} if isinstance(url, str) else url}


def _image(block: Block) -> Part:
    source = _MediaSource(block, "image/jpeg")
    if source.file_id:
        return {"type": "file", "file": {"file_id": source.file_id}}
    image: Part = {"url": source.link}
    detail = block.get("detail") or (block.get("extras") or {}).get("detail")
    if detail:
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _audio(block: Block) -> Part:
    source = _MediaSource(block, "audio/wav")
    if source.data is None:
        raise ConfigurationError("audio: give it as base64; the API takes no links to audio")
    form = source.mime_type.partition(";")[0].partition("/")[2].strip().removeprefix("x-")
    form = {"mpeg": "mp3", "wave": "wav"}.get(form, form)
    return {"type": "input_audio", "input_audio": {"data": source.data, "format": form}}


def _file(block: Block) -> Part:
    if isinstance(block.get("file"), Mapping):
        return {"type": "file", "file": dict(block["file"])}
    source = _MediaSource(block, "application/pdf")
    if source.text is not None:
        return {"type": "text", "text": source.text}
    if source.file_id:
        return {"type": "file", "file": {"file_id": source.file_id}}
    if source.data is None:
        raise ConfigurationError(
            "file: give it as base64 or file_id; the API takes no links to files"
        )
    return {
        "type": "file",
        "file": {"filename": _filename(block, source.mime_type), "file_data": source.link},
    }


def _filename(block: Block, mime_type: str) -> str:
    """The file's own name, if it has one: some providers refuse a file without."""
    for place in (block, block.get("extras"), block.get("metadata")):
        for name in ("filename", "name", "title"):
            if isinstance(place, Mapping) and isinstance(place.get(name), str):
                return str(place[name])
    return f"file{mimetypes.guess_extension(mime_type) or ''}"


def _video(block: Block) -> Part:
    return {"type": "video_url", "video_url": {"url": _MediaSource(block, "video/mp4").link}}


def _non_standard(block: Block) -> Part | None:
    value = block.get("value")
    return to_part(value) if isinstance(value, Mapping) else None


_KINDS: dict[str, Callable[[Block], Part | None]] = {
    "audio": _audio,
    "document": _file,
    "file": _file,
    "image": _image,
    "image_url": _image_url,
    "non_standard": _non_standard,
    "output_text": _text,  # OpenAI's Responses
    "refusal": _refusal,
    "text": _text,
    "text-plain": _file,
    "video": _video,
}


class _MediaSource:
    """The bytes of a media block, or where they are, from any of the known forms."""

    def __init__(self, block: Block, default_mime_type: str) -> None:
        source = block.get("source")  # Anthropic's
        place: Block = source if isinstance(source, Mapping) else block
        self.kind = str(block.get("type"))
        mime_type = place.get("mime_type") or place.get("media_type")
        self.mime_type = str(mime_type or default_mime_type)
        self.text: str | None = place.get("text")
        self.file_id: str | None = place.get("file_id")
        self.url: str | None = place.get("url")
        self.data: str | None = place.get("base64")
        form = place.get("source_type") or (place.get("type") if place is source else None)
        if form == "base64":
            self.data = place.get("data")
        elif form == "id":
            self.file_id = place.get("id")
        elif form == "text":
            # LangChain's v0 keeps the text itself under "url".
            self.text, self.url = place.get("text") or place.get("data") or self.url, None

    @property
    def link(self) -> str:
        """The URL; a data URL if the block holds the data itself."""
        if self.data is not None:
            return f"data:{self.mime_type};base64,{self.data}"
        if self.url:
            return self.url
        raise ConfigurationError(f"{self.kind}: the block has neither url nor base64 nor file_id")
