"""Errors for an answer that should hold a tool call or an object: the core's errors, as ValueErrors too.

LlamaIndex's own programs raise ValueError for an answer that does not fit, and their callers catch that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llama_index_lunar.messages import to_message
from lunar_core.errors import OutputTruncatedError, ToolChoiceIgnoredError
from lunar_core.types.completions import ChatCompletion
from lunar_core.wire.finish_reasons import is_token_limit, is_withheld
from lunar_core.wire.output import is_cut_off, make_truncated_error

JSONObject = dict[str, Any]
Response = ChatResponse | CompletionResponse

SHOWN = 200
"""How many characters of an answer an error shows."""


class TruncatedValueError(OutputTruncatedError, ValueError):
    """OutputTruncatedError, as a ValueError too."""


class ToolChoiceIgnoredValueError(ToolChoiceIgnoredError, ValueError):
    """ToolChoiceIgnoredError, as a ValueError too."""


def find_truncation(
    response: Response, output: str, token_limit: int | None
) -> TruncatedValueError | None:
    """The error for a finished answer whose ``output`` (JSON text) is incomplete; None if it is complete.

    ``token_limit``: the ``max_tokens`` of the request, if it had one.
    """
    finish_reason = response.additional_kwargs.get("finish_reason")
    if not (is_token_limit(finish_reason) or is_cut_off(output)):
        return None
    error = make_truncated_error(output, finish_reason=finish_reason, token_limit=token_limit)
    twin = TruncatedValueError(error.message, partial=rebuild_answer(response))
    twin.output, twin.finish_reason, twin.token_limit = output, finish_reason, token_limit
    twin.call_id = response.additional_kwargs.get("call_id")
    return twin


def find_refusal(response: Response) -> ValueError | None:
    """The error for an answer that the model refused or a filter withheld; None for any other."""
    refusal = response.additional_kwargs.get("refusal")
    if refusal:
        return ValueError(f"the model refused to answer: {str(refusal)[:SHOWN]!r}")
    finish_reason = response.additional_kwargs.get("finish_reason")
    if is_withheld(finish_reason):
        return ValueError(f"the answer was withheld (finish_reason {finish_reason!r})")
    return None


def is_in_words(response: ChatResponse) -> bool:
    """Whether a finished answer has no tool call, and neither the token limit nor a refusal is the cause."""
    metadata = response.additional_kwargs
    finish_reason = metadata.get("finish_reason")
    return not (
        "tool_calls" in response.message.additional_kwargs
        or metadata.get("invalid_tool_calls")
        or metadata.get("refusal")
        or is_token_limit(finish_reason)
        or is_withheld(finish_reason)
    )


def make_ignored_error(response: Response, tools: Sequence[str]) -> ToolChoiceIgnoredValueError:
    """The error for an answer in words, although one of ``tools`` had to be called."""
    error = ToolChoiceIgnoredValueError(
        f"{', '.join(tools)}: expected a tool call, but {_describe_words(response)}",
        partial=rebuild_answer(response),
    )
    error.call_id = response.additional_kwargs.get("call_id")
    return error


def _describe_words(response: Response) -> str:
    """The answer's text for an error, and what to do for a model that knows no tools."""
    text = response.text if isinstance(response, CompletionResponse) else response.message.content
    model = response.additional_kwargs.get("model")
    return (
        f"the answer of {model} was {(text or '')[:SHOWN]!r}. For a model or a service that knows no tools, "
        "is_function_calling_model=False asks in the prompt"
    )


def explain_missing_call(response: ChatResponse, token_limit: int | None) -> ValueError:
    """The error for a response without a tool call."""
    invalid = response.additional_kwargs.get("invalid_tool_calls")
    if not invalid:
        return find_refusal(response) or ValueError(
            f"Expected at least one tool call, but got 0 tool calls: {_describe_words(response)}"
        )
    arguments = invalid[0].get("function", {}).get("arguments", "")
    truncation = find_truncation(response, arguments, token_limit)
    return truncation or ValueError(
        f"Expected a tool call, but its arguments are no JSON: {arguments[:SHOWN]!r}"
    )


def rebuild_answer(response: Response) -> ChatCompletion | None:
    """The core's answer behind a response, also behind the last response of a stream. None for text completions."""
    if isinstance(response, CompletionResponse):
        return None
    raw = response.raw if isinstance(response.raw, dict) else {}
    finish_reason = response.additional_kwargs.get("finish_reason")
    choice = {"index": 0, "message": to_message(response.message), "finish_reason": finish_reason}
    fields = {name: raw.get(name) for name in ("id", "model", "usage", "routing")}
    return ChatCompletion.model_validate({**fields, "choices": [choice]})
