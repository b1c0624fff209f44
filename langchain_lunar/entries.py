"""Makes a ledger's Entry of what LangChain reports about a model's run. Pure."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from langchain_lunar.metadata import metadata_of
from lunar_core import ChatCompletion, Completion, Entry, LunarError
from lunar_core.cost.entries import entry_from_metadata
from lunar_core.observers import Status
from lunar_core.types.attempt import Attempt

_ABORTED = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)

_Facts = tuple[Mapping[str, Any], Mapping[str, Any]]
"""An answer's ``response_metadata``, and its tokens under any of their names."""


@dataclass(frozen=True)
class OpenRun:
    """A model's run that has not ended. ``labels`` has at least its ``run_id``."""

    endpoint: str
    labels: Mapping[str, object]
    tags: Mapping[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)
    """What a stream has stated about its call so far."""
    tokens: dict[str, Any] = field(default_factory=dict)

    def hear(self, chunk: Generation) -> None:
        """Keep what ``chunk`` states: LangChain does not always pass it on when a stream is left."""
        metadata, tokens = _facts_of(chunk)
        self.metadata.update(metadata)
        self.tokens.update(tokens)

    def stated_at_start(self, key: str) -> str | None:
        """A value that the model stated when the run began: ``ls_model_name``, ``ls_provider``."""
        metadata = self.labels.get("metadata")
        return _text(metadata.get(key)) if isinstance(metadata, Mapping) else None


@dataclass(frozen=True)
class RunReport:
    """How a run ended. ``from_cache``: LangChain reports that its cache gave the answer."""

    entry: Entry
    from_cache: bool = False

    @classmethod
    def of_answer(cls, run: OpenRun, response: LLMResult) -> RunReport:
        info, usage = _facts(response)
        # langchain-core marks a hit by a cost of 0 beside the tokens, and changes nothing else.
        hit = usage.get("total_cost") == 0 and info.get("total_cost_usd") != 0
        return cls(_entry(run, "ok", info, usage), hit)

    @classmethod
    def of_error(cls, run: OpenRun, error: BaseException, response: LLMResult | None) -> RunReport:
        info, usage = _facts(response)
        info, usage = {**run.metadata, **info}, usage or run.tokens
        if not isinstance(error, LunarError):
            status: Status = "aborted" if isinstance(error, _ABORTED) else "failed"
            return cls(_entry(run, status, info, usage))
        if error.partial is not None and "model_name" not in info:  # which only the last chunk has
            info, usage = _facts_of_partial(error.partial)
        named = {"call_id": error.call_id, **info}
        return cls(_entry(run, "failed", named, usage, error.attempts))

    def repeats(self, first: Entry | None) -> bool:
        """Whether a cache gave the answer of ``first`` again: another run reported the same call.

        An observer of the client reports a call without a run.
        """
        run_id = first.labels.get("run_id") if first is not None else None
        return self.from_cache or run_id not in {None, self.entry.labels["run_id"]}

    def as_hit(self) -> Entry:
        """The entry for an answer of an earlier call that a cache gave again, at no cost."""
        return replace(
            self.entry,
            call_id=f"{self.entry.call_id}@{self.entry.labels['run_id']}",
            endpoint="cache",
            prompt_tokens=0,
            completion_tokens=0,
            total_tokens=0,
            cost=Decimal(0),
            saved=self.entry.cost,
            latency_ms=None,
            ttft_ms=None,
        )


def was_sent(error: BaseException) -> bool:
    """Whether a call that ended with ``error`` reached the service. One that an observer refused did not."""
    return not isinstance(error, LunarError) or bool(error.attempts)


def _entry(
    run: OpenRun,
    status: Status,
    info: Mapping[str, Any],
    usage: Mapping[str, Any],
    attempts: tuple[Attempt, ...] = (),
) -> Entry:
    provider = None
    if not info.get("call_id"):  # another vendor's model
        provider = _text(info.get("model_provider")) or run.stated_at_start("ls_provider")
    return entry_from_metadata(
        info,
        usage,
        call_id=str(run.labels["run_id"]),
        endpoint=run.endpoint,
        status=status,
        requested_model=run.stated_at_start("ls_model_name") or "",
        provider=provider,
        tags=run.tags,
        labels=run.labels,
        attempts=attempts,
    )


def _facts(response: LLMResult | None) -> _Facts:
    """The metadata and tokens of the first generation that has any.

    Other vendors may state tokens in ``llm_output``.
    """
    generations = response.generations if response is not None else []
    beside = ((response and response.llm_output) or {}).get("token_usage")
    tokens = beside if isinstance(beside, Mapping) else {}
    for generation in (generation for listed in generations for generation in listed):
        info, usage = _facts_of(generation)
        if info or usage:
            return info, usage or tokens
    return {}, tokens


def _facts_of(generation: Generation) -> _Facts:
    if isinstance(generation, ChatGeneration) and isinstance(generation.message, AIMessage):
        message = generation.message
        return message.response_metadata, dict(message.usage_metadata or {})
    info = generation.generation_info or {}
    usage = info.get("token_usage")
    return info, usage if isinstance(usage, Mapping) else {}


def _facts_of_partial(partial: ChatCompletion | Completion) -> _Facts:
    """What a stream stated before it broke off, and which LangChain has not seen."""
    return metadata_of(partial, None), partial.usage.model_dump() if partial.usage else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
