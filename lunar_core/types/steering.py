"""The control characters to remove from text of others before people read it in a terminal."""

from __future__ import annotations

STEERING = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""Maps control characters, which move a terminal's cursor or rename its window, to None; for ``str.translate``."""
