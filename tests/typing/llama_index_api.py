"""What LlamaIndex's users write, as type checkers see it. Checked by mypy and pyright in strict mode, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from decimal import Decimal

from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
)
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel
from typing_extensions import assert_type

from llama_index_lunar import LunarCosts, LunarLLM, LunarUsageEvent, lunar_cost
from lunar_core import Ledger, RoutingDecision


class Song(BaseModel):
    title: str


def models_are_made_of_these() -> None:
    LunarLLM("gpt-4o-mini", 0.1, 100, api_key="pk_live_...", api_base="https://gateway.example")
    LunarLLM(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=0.3, sticky="off")
    LunarLLM(model="gpt-4o", jwt=lambda: "token", fallbacks=["gpt-4o-mini"], observers=[Ledger()])
    LunarLLM(model="gpt-4o", timeout=(5, 600), total_timeout=60.0, max_retries=0, stop=["."])
    LunarLLM(model=7)  # type: ignore[arg-type]


def endpoints_answer_with_the_frameworks_types(llm: LunarLLM, messages: list[ChatMessage]) -> None:
    assert_type(llm.chat(messages), ChatResponse)
    assert_type(llm.stream_chat(messages), ChatResponseGen)
    assert_type(llm.complete("Hello!", max_tokens=5), CompletionResponse)
    assert_type(llm.structured_predict(Song, PromptTemplate("A song")), Song)
    assert_type(llm.route("Hello!", cost_weight=0.5), RoutingDecision)
    llm.chat("Hello!")  # type: ignore[arg-type]


async def and_so_do_those_for_asyncio(llm: LunarLLM, messages: list[ChatMessage]) -> None:
    assert_type(await llm.achat(messages), ChatResponse)
    assert_type(await llm.astream_chat(messages), ChatResponseAsyncGen)
    assert_type(await llm.acomplete("Hello!"), CompletionResponse)
    assert_type(await llm.astructured_predict(Song, PromptTemplate("A song")), Song)


def costs_are_exact_and_may_be_unknown(event: LunarUsageEvent) -> None:
    with lunar_cost(tags={"tenant": "acme"}) as costs:
        assert_type(costs, LunarCosts)
        assert_type(costs.total_cost, Decimal)
        assert_type(costs.unpriced, int)
    assert_type(event.total_cost_usd, float | None)
