"""What LangChain's users write, as type checkers see it. Checked by mypy and pyright in strict mode, never run."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from decimal import Decimal

from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel
from langchain_core.messages import AIMessage
from typing_extensions import assert_type

from langchain_lunar import (
    ChatLunar,
    LunarCostCallbackHandler,
    LunarLLM,
    LunarRouterChain,
    get_lunar_cost,
    init_lunar_model,
)
from langchain_lunar.middleware import LunarRoutingMiddleware
from lunar_core import Ledger, RoutingDecision


def models_are_made_of_these() -> None:
    ChatLunar(model="gpt-4o-mini", api_key="pk_live_...", base_url="https://gateway.example")
    ChatLunar(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=0.3, sticky="off")
    ChatLunar(model="gpt-4o", jwt=lambda: "token", fallbacks=["gpt-4o-mini"], observers=[Ledger()])
    ChatLunar(model="gpt-4o", timeout=(5, 600), total_timeout=60.0, max_retries=0, temperature=0)
    LunarLLM(model="gpt-4o-mini", max_tokens=50, stop=["."])
    assert_type(init_lunar_model("router", temperature=0.1), ChatLunar)
    ChatLunar(model_name="gpt-4o", openai_api_key="pk_live_...", request_timeout=5, stream=True)
    ChatLunar(model="gpt-4o", max_completion_tokens=5, stop_sequences=["."], headers={"X-A": "b"})
    LunarLLM(model_name="gpt-4o", openai_api_base="https://gateway.example", tags={"team": "a"})
    ChatLunar(model="gpt-4o", temprature=0.1)  # type: ignore[call-arg]
    ChatLunar(model=7)  # type: ignore[arg-type]


def chains_are_made_of_these(llm: ChatLunar) -> None:
    assert_type(LunarRouterChain(), LunarRouterChain)
    LunarRouterChain(llm, on_routing_error="fallback", default_model="gpt-4o")
    LunarRouterChain(models=["gpt-4o", "gpt-4o-mini"], cost_weight=0.3, temperature=0.1)
    LunarRouterChain(candidates={"gpt-4o": ParrotFakeChatModel(), "gpt-4o-mini": "openai:gpt-4o"})
    LunarRoutingMiddleware(models=["gpt-4o", "gpt-4o-mini"], per="run")
    LunarRouterChain(on_routing_error="ignore")  # type: ignore[arg-type]


def answers_are_messages_and_costs_exact(llm: ChatLunar, chain: LunarRouterChain) -> None:
    assert_type(llm.invoke("Hello!"), AIMessage)
    assert_type(chain.invoke("Hello!"), AIMessage)
    assert_type(chain.decide("Hello!", cost_weight=0.5), RoutingDecision)
    with get_lunar_cost() as cost:
        assert_type(cost, LunarCostCallbackHandler)
        assert_type(cost.total_cost, Decimal)
