"""Tool calls that did not come whole, marked so that LangChain finds them invalid: it reads sums of chunks leniently.

A subclass of AIMessageChunk that reads strictly would leave ``invoke`` as a chunk; a bracket that is wrong where the
arguments end does it for all of LangChain's ways.
"""

from __future__ import annotations

from langchain_core.utils.json import parse_partial_json

from lunar_core.wire.output import is_cut_off

_BRACKETS = ("]", "}", '"]', '"}', '\\"]', '\\"}')
"""Wherever arguments end, in a string or behind a backslash too, one of these is wrong there."""


def wrong_bracket(arguments: str) -> str:
    """What makes LangChain's lenient reading refuse ``arguments``; "" if it refuses them already."""
    if arguments and not _reads_leniently(arguments):
        return ""
    return next(end for end in _BRACKETS if not _reads_leniently(arguments + end))


def without_wrong_bracket(arguments: str) -> str:
    """What had come of the arguments of an invalid call, with or without the bracket."""
    for bracket in sorted(_BRACKETS, key=len, reverse=True):
        half = arguments.removesuffix(bracket)
        if half != arguments and (not half or is_cut_off(half)):
            return half
    return arguments


def _reads_leniently(arguments: str) -> bool:
    try:
        return isinstance(parse_partial_json(arguments), dict)
    except (ValueError, RecursionError):
        return False
