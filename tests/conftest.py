"""What every test stands on: nothing from outside, and the same examples in every CI run."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# Shared machines stall for longer than any deadline worth setting. What is red in CI must be red
# again when it is looked into.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")

# A job in the background, as CI may be, starts with SIGINT ignored, and hands that on to what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["lunar_core.sandbox.pytest_plugin"]

# A key that would spend money, a server or a trust store that is not ours, a tracer that uploads.
OUTSIDE = ("LUNAR_", "LANGCHAIN_", "LANGSMITH_", "OPENAI_", "SSL_CERT_")


@pytest.fixture(scope="session", autouse=True)
def a_loop_to_find() -> Iterator[None]:
    """pytest-asyncio 1.3 asks for the thread's event loop; on old Pythons that makes one, which nobody closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


def pytest_collection_finish() -> None:
    """What the imports left is no test's garbage: no collection that a test asks for walks through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_from_outside() -> Iterator[None]:
    """Hide the developer's own settings from the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(OUTSIDE) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield
