"""What LangChain tells of a model's run → an Entry for the ledger. Pure."""

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

_ABORTED = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)

_Facts = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What is said of an answer (``response_metadata``), and its tokens under whichever names."""


@dataclass(frozen=True)
class Run:
    """A model's run that is under way. ``labels`` has at least its ``run_id``."""

    endpoint: str
    labels: Mapping[str, object]
    tags: Mapping[str, str]
    metadata: dict[str, Any] = field(default_factory=dict)
    """What a stream has told so far of its call."""
    tokens: dict[str, Any] = field(default_factory=dict)

    def hear(self, chunk: Generation) -> None:
        """Keep what ``chunk`` tells: not every way to leave a stream has LangChain hand it on at the end."""
        metadata, tokens = _facts_of(chunk)
        self.metadata.update(metadata)
        self.tokens.update(tokens)

    def stated_at_start(self, key: str) -> str | None:
        """What the model said of itself when it was asked: ``ls_model_name``, ``ls_provider``."""
        metadata = self.labels.get("metadata")
        return _text(metadata.get(key)) if isinstance(metadata, Mapping) else None


@dataclass(frozen=True)
class Report:
    """How a run ended. ``from_cache``: LangChain's cache gave the answer, and says so."""

    entry: Entry
    from_cache: bool = False

    @classmethod
    def of_answer(cls, run: Run, response: LLMResult) -> Report:
        info, usage = _facts(response)
        # Core marks a hit by a cost of 0 beside the tokens, and leaves all else as it was.
        hit = usage.get("total_cost") == 0 and info.get("total_cost_usd") != 0
        return cls(_entry(run, "ok", info, usage), hit)

    @classmethod
    def of_error(cls, run: Run, error: BaseException, response: LLMResult | None) -> Report:
        info, usage = _facts(response)
        info, usage = {**run.metadata, **info}, usage or run.tokens
        if not isinstance(error, LunarError):
            status: Status = "aborted" if isinstance(error, _ABORTED) else "failed"
            return cls(_entry(run, status, info, usage))
        if error.partial is not None and "model_name" not in info:  # which only the last chunk has
            info, usage = _facts_of_partial(error.partial)
        named = {"call_id": error.call_id, **info}
        return cls(replace(_entry(run, "failed", named, usage), attempts=error.attempts))

    def repeats(self, first: Entry | None) -> bool:
        """Whether the call was ``first`` reported by another run, whose answer came out of a cache this time.

        An observer of the client reports the same call without a run.
        """
        run_id = first.labels.get("run_id") if first is not None else None
        return self.from_cache or run_id not in {None, self.entry.labels["run_id"]}

    def as_hit(self) -> Entry:
        """The answer of an earlier call, handed out again for nothing."""
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
    """Whether a call that ended with ``error`` reached the service: one that an observer refused did not, say."""
    return not isinstance(error, LunarError) or bool(error.attempts)


def _entry(run: Run, status: Status, info: Mapping[str, Any], usage: Mapping[str, Any]) -> Entry:
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
    )


def _facts(response: LLMResult | None) -> _Facts:
    """The metadata and tokens of the first generation that has any. Other vendors may state tokens beside it."""
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
    """What a stream had told when it broke off, before LangChain came to hand it on."""
    return metadata_of(partial, None), partial.usage.model_dump() if partial.usage else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
