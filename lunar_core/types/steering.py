"""What text from elsewhere must not hold where people read it."""

from __future__ import annotations

STEERING = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
"""Control characters, which move a terminal's cursor or rename its window; for ``str.translate``."""
