"""pytest fixtures: a Lunar API for tests, without a network and without a bill.

In the root ``conftest.py``::

    pytest_plugins = ["lunar_core.sandbox.pytest_plugin"]

and in a test::

    def test_it_answers(lunar_sandbox):
        client = Lunar(api_key=lunar_sandbox.api_key, base_url=lunar_sandbox.url)
        ...
        assert len(lunar_sandbox.requests()) == 1

What the model says can be scripted: ``lunar_sandbox.say("Hello.")``,
``.call_tool("weather", {"city": "Oslo"})``, ``.fail(503)``. With ``lunar_sandbox_env`` instead,
clients that are told nothing find the sandbox by their environment.
"""

from __future__ import annotations

import contextlib
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from lunar_core.sandbox.handle import Sandbox, run

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SandboxFactory", "lunar_sandbox", "lunar_sandbox_env", "lunar_sandbox_factory"]


class SandboxFactory(Protocol):
    """Gives sandboxes; takes the arguments of ``lunar_core.sandbox.run``."""

    def __call__(self, **options: Any) -> Sandbox: ...


@pytest.fixture(scope="session")
def lunar_sandbox_factory() -> Iterator[SandboxFactory]:
    """Give sandboxes by options, ``lunar_sandbox_factory(dialect="observed")``.

    One server runs for each set of options until the tests are over; every call gets a session of
    its own there, so that no test sees another's requests.
    """
    servers: dict[str, Sandbox] = {}
    numbers = count(1)
    with contextlib.ExitStack() as running:

        def sandbox(**options: Any) -> Sandbox:
            key = repr(sorted(options.items()))
            server = servers.get(key)
            if server is None or server.process.poll() is not None:
                server = servers[key] = running.enter_context(run(**options))
            return server.session(str(next(numbers)))

        yield sandbox
        for server in servers.values():  # All begin to end; then each is waited for.
            if server.process.stdin:
                server.process.stdin.close()


@pytest.fixture
def lunar_sandbox(lunar_sandbox_factory: SandboxFactory) -> Iterator[Sandbox]:
    """Give a session of a sandbox that speaks the documented dialect, its log and script empty."""
    sandbox = lunar_sandbox_factory()
    yield sandbox
    if sandbox.process.poll() is None:
        sandbox.reset()


@pytest.fixture
def lunar_sandbox_env(lunar_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Set LUNAR_API_KEY and LUNAR_BASE_URL to the sandbox, for code that makes its own clients."""
    monkeypatch.setenv("LUNAR_API_KEY", lunar_sandbox.api_key)
    monkeypatch.setenv("LUNAR_BASE_URL", lunar_sandbox.url)
    monkeypatch.delenv("LUNAR_JWT", raising=False)
    return lunar_sandbox
