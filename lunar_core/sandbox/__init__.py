"""The Lunar API on this machine, for development and tests.

``python -m lunar_core.sandbox`` serves it on 127.0.0.1; :func:`run` does so for the length of a
``with`` block; :mod:`lunar_core.sandbox.pytest_plugin` gives the fixture ``lunar_sandbox``.
It shares no code with the client that it checks. Answers are made up, by stated rules:
:mod:`~lunar_core.sandbox.text`, :mod:`~lunar_core.sandbox.tools`,
:mod:`~lunar_core.sandbox.schema`, :mod:`~lunar_core.sandbox.usage`,
:mod:`~lunar_core.sandbox.router`, :mod:`~lunar_core.sandbox.faults`.
"""

from lunar_core.sandbox.handle import Sandbox, SandboxError, run

__all__ = ["Sandbox", "SandboxError", "run"]
