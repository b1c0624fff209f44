"""Where an example asks: the sandbox on this machine, or with ``--live`` the hosted service (that costs money)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lunar_core import sandbox


@contextmanager
def service() -> Iterator[None]:
    """Set LUNAR_API_KEY and LUNAR_BASE_URL for the length of the block; live, they are yours."""
    if "--live" in sys.argv[1:]:
        if not os.environ.get("LUNAR_API_KEY"):
            sys.exit("--live needs LUNAR_API_KEY")
        yield
        return
    with sandbox.run() as running:
        os.environ |= {"LUNAR_API_KEY": running.api_key, "LUNAR_BASE_URL": running.url}
        yield
        print(f"\nThe sandbox billed {running.total_billed()} USD for all of this.")
