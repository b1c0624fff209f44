"""Writes values as JSON lines that any reader takes for one line each."""

from __future__ import annotations

import json
import re

_ESCAPED = re.compile("[\x85\u2028\u2029\ud800-\udfff]")
"""Line ends of Unicode, at which some readers divide a line in two, and lone surrogates, which UTF-8 cannot hold."""


def json_line(value: object) -> str:
    r"""``value`` as a line of JSON, with its end. Reading it gives the same value.

    >>> json_line({"id": "\ud83d", "text": "été"})
    '{"id": "\\ud83d", "text": "été"}\n'
    """
    line = json.dumps(value, ensure_ascii=False)
    return _ESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", line) + "\n"
