"""Scripted answers, which a test sets in order, for each session apart.

A step is a JSON object with one of three keys:

- ``{"say": "Hello."}``: a text;
- ``{"call_tools": [{"name": "weather", "arguments": {"city": "Oslo"}}]}``: tool calls. Arguments
  may also be a string, which is sent as it is;
- ``{"fail": "503"}``: a fault (``lunar_core.sandbox.faults``).

``POST /sandbox/script`` takes ``{"steps": [...]}`` and appends them, ``GET`` lists those that are
left, ``DELETE`` forgets them. Each request that generates takes the next step, whichever model and
endpoint it names; requests that are refused, or that ask for a fault themselves, take none. When
no step is left, an answer function is asked (``{"answer_url": "http://127.0.0.1:…"}``; it is sent
the request's body and replies with a step, or ``null``), else the model's own rules say what comes.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from lunar_core.sandbox.answers import Draft
from lunar_core.sandbox.errors import ServiceError
from lunar_core.sandbox.faults import parse
from lunar_core.sandbox.requests import ClosedBody

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

MAX_STEPS = 10_000
"""Steps that a session may have waiting."""
_ANSWER_SECONDS = 60.0


class ScriptedCall(ClosedBody):
    """One tool call."""

    name: str
    arguments: dict[str, Any] | str = Field(default_factory=dict)

    def as_text(self) -> str:
        """Write the arguments as a model does: as JSON text."""
        if isinstance(self.arguments, str):
            return self.arguments
        return json.dumps(self.arguments, ensure_ascii=False)


class Step(ClosedBody):
    """The outcome of one request: a text, tool calls or a fault."""

    say: str | None = None
    call_tools: Annotated[list[ScriptedCall], Field(min_length=1)] | None = None
    fail: str | None = None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Step:
        if len(self.model_fields_set) != 1 or None in self.as_json().values():
            raise ValueError("a step has one of the keys say, call_tools and fail")
        return self

    def as_json(self) -> dict[str, Any]:
        """Write the step as it was posted."""
        return self.model_dump(exclude_unset=True)

    def draft(self) -> Draft | None:
        """Return what the step says; None for one that fails."""
        if self.call_tools:
            return Draft(calls=[(call.name, call.as_text()) for call in self.call_tools])
        return None if self.say is None else Draft(self.say)


class ScriptRequest(ClosedBody):
    """The body of ``POST /sandbox/script``."""

    steps: list[Step] = Field(default_factory=list)
    answer_url: Annotated[str, Field(pattern=r"^http://127\.0\.0\.1:\d+/")] | None = None


class Scripts:
    """The steps that wait in each session, and the functions that answer for it."""

    def __init__(self) -> None:
        self._steps: dict[str, deque[Step]] = {}
        self._answer_urls: dict[str, str] = {}
        self._client: httpx.AsyncClient | None = None

    def add(self, session: str, body: Mapping[str, Any]) -> None:
        """Append the steps of a checked ScriptRequest, or name the function that answers.

        Raises ServiceError: 400, for a fault that isn't in the list, or for too many steps.
        """
        script = ScriptRequest.model_validate(body)
        steps = [once for step in script.steps for once in _repeat(step)]
        waiting = self._steps.setdefault(session, deque())
        if len(waiting) + len(steps) > MAX_STEPS:
            raise ServiceError(400, f"A script has {MAX_STEPS} steps at most")
        waiting.extend(steps)
        if script.answer_url:
            self._answer_urls[session] = script.answer_url

    def remaining(self, session: str) -> list[dict[str, Any]]:
        """List the steps that no request has taken yet."""
        return [step.as_json() for step in self._steps.get(session, ())]

    def clear(self, session: str | None) -> None:
        """Forget a session's script, or everyone's."""
        for scripts in (self._steps, self._answer_urls):
            if session is None:
                scripts.clear()
            else:
                scripts.pop(session, None)

    async def take(self, session: str, payload: Mapping[str, Any]) -> Step | None:
        """Take the next step for a request; None if the model's own rules answer.

        Raises ServiceError: 500, where the session's function gives no step.
        """
        if steps := self._steps.get(session):
            return steps.popleft()
        url = self._answer_urls.get(session)
        return await self._ask_function(url, payload) if url else None

    async def _ask_function(self, url: str, payload: Mapping[str, Any]) -> Step | None:
        # Imported here, because a sandbox that calls no function starts faster without it.
        import httpx

        self._client = self._client or httpx.AsyncClient(trust_env=False, timeout=_ANSWER_SECONDS)
        try:
            response = await self._client.post(url, json=payload)
            reply = response.json()
            if response.status_code != 200:
                raise ServiceError(500, f"The answer function failed: {reply}")
            return None if reply is None else Step.model_validate(reply)
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceError(500, f"The answer function gave no step: {error}") from None


def _repeat(step: Step) -> list[Step]:
    """Write ``503*2`` as two steps."""
    if step.fail is None:
        return [step]
    fault = parse(step.fail)
    if fault.times is None:
        return [step]
    spec = step.fail.rpartition("*")[0] or fault.name  # "fail-twice" has no asterisk.
    return [Step(fail=spec)] * fault.times
