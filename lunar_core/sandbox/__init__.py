"""The Lunar API on this machine, for development and tests.

``python -m lunar_core.sandbox`` serves it on 127.0.0.1; ``run`` does so for the length of a ``with`` block;
``lunar_core.sandbox.pytest_plugin`` gives the fixture ``lunar_sandbox``. It shares no code with the client that it
checks. Answers are scripted, or made up, by stated rules: ``generate``, ``values``, ``forms``, ``usage``, ``router``,
``faults``.

Where things are, along the way of a request:

- ``handle`` starts the command, ``__main__``, as a process; ``server`` serves until it is ended.
- ``app`` routes requests and records them (``log``); ``service`` has the endpoints. Before an
  answer, ``admission`` sees to keys, bodies (``requests``), faults and the model (``catalogue``).
- ``router`` chooses by a table, ``engine`` by the vendor's own program.
- ``script`` says what a test scripted; a function of the test's process answers by ``callback``.
- ``sources`` answer: the built-in models or an ``upstream``. What a model says is ``generate``'s: it
  calls tools, fills a schema (``values``) or a form that the prompt shows (``forms``) with the words
  of the ``prompt``, or says a text. ``conversation`` reads messages and counts their tokens,
  ``answers`` writes what is said within its limits and cuts it for streams.
- ``dialects`` gives an answer its form, ``streams`` its events; ``usage`` counts and prices it,
  ``bills`` charges it.
- ``errors`` has the answer that is an error; ``faults`` are failures on demand,
  ``provider_errors`` what providers say of theirs, and ``connections`` hangs up.
- ``terminal`` shows a line for each request, ``pages`` what a browser and OpenAPI's tools read.

``README.md`` beside this file says where the two dialects differ, and both from the service.
"""

from lunar_core.sandbox.handle import Sandbox, SandboxError, run

__all__ = ["Sandbox", "SandboxError", "run"]
