"""Marks incomplete tool calls so that LangChain finds them invalid: it parses sums of chunks leniently.

A subclass of AIMessageChunk with a strict parser would leave ``invoke`` as a chunk. A wrong bracket at the end of the
arguments works for all of LangChain's methods.
"""

from __future__ import annotations

from langchain_core.utils.json import parse_partial_json

_BRACKETS = ("]", "}", '"]', '"}', '\\"]', '\\"}')
"""Wherever the arguments end, even in a string or after a backslash, one of these is wrong there."""


def find_wrong_bracket(arguments: str) -> str:
    """The text that makes LangChain's lenient parser refuse ``arguments``; "" if it already does."""
    if arguments and not _reads_leniently(arguments):
        return ""
    return next(end for end in _BRACKETS if not _reads_leniently(arguments + end))


def remove_wrong_bracket(arguments: str) -> str:
    """The arguments of an invalid call as they came, without such a bracket."""
    for bracket in sorted(_BRACKETS, key=len, reverse=True):
        half = arguments.removesuffix(bracket)
        if half != arguments and find_wrong_bracket(half) == bracket:
            return half
    return arguments


def _reads_leniently(arguments: str) -> bool:
    try:
        return isinstance(parse_partial_json(arguments), dict)
    except (ValueError, RecursionError):
        return False
