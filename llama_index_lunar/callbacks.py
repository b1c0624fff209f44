"""What LlamaIndex's calls cost: thin views on a ``lunar_core.Ledger``."""

from __future__ import annotations

from typing import Any
