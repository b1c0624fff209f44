"""Lunar decides, your own model objects execute: two classes of two vendors as the router's candidates.

    python examples/07_candidates.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/07_candidates.py --live      on the hosted service: this costs money

Live the vendors' own classes answer where they are installed (``pip install langchain langchain-openai
langchain-mistralai``, OPENAI_API_KEY and MISTRAL_API_KEY), else Lunar does. Offline the sandbox decides, and
stand-ins of LangChain's own answer.
"""

from __future__ import annotations

from importlib.util import find_spec
from itertools import repeat

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import (
    FakeMessagesListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage
from service import service

from langchain_lunar import ChatLunar, LunarRouterChain, get_lunar_cost
from lunar_core import BREAK_TIES

QUESTIONS = [
    "Prove that the square root of 2 is irrational.",
    "Translate into Italian: See you tomorrow.",
    "Suggest a name for a bakery.",
]


def own_models(*, live: bool) -> dict[str, BaseChatModel | str]:
    """Your objects, each under the name that Lunar knows; strings are for LangChain's ``init_chat_model``."""
    if live and find_spec("langchain_openai") and find_spec("langchain_mistralai"):
        return {
            "gpt-4o": "openai:gpt-4o",
            "mistral-large-latest": "mistralai:mistral-large-latest",
        }
    if live:
        return {name: ChatLunar(model=name) for name in ("gpt-4o", "mistral-large-latest")}
    return {
        "gpt-4o": FakeMessagesListChatModel(responses=[answer_of("gpt-4o")]),
        "mistral-large-latest": GenericFakeChatModel(
            messages=repeat(answer_of("mistral-large-latest"))
        ),
    }


def answer_of(model: str) -> AIMessage:
    """What a stand-in says, with what vendors' classes tell of an answer: their tokens, not their price."""
    usage = {"input_tokens": 12, "output_tokens": 5, "total_tokens": 17}
    metadata = {"model_name": model}
    return AIMessage(
        f"An answer of {model}'s own.", usage_metadata=usage, response_metadata=metadata
    )


def main(*, live: bool) -> None:
    """Lunar has the say on who answers; keys, limits and bills are between you and the vendors."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    chain = LunarRouterChain(candidates=own_models(live=live), cost_weight=BREAK_TIES)
    with get_lunar_cost() as cost:
        for question in QUESTIONS:
            answer = chain.invoke(question)
            route = answer.response_metadata["routing"]
            print(f"{question}\n  {route['selected_model']}: {answer.text}")
            print(f"  {route['reasoning'].splitlines()[0]}\n")
    print("model                 calls  tokens  unpriced")
    for model, totals in cost.by_model.items():
        print(f"{model:20}  {totals.calls:5}  {totals.total_tokens:6}  {totals.unpriced:8}")


if __name__ == "__main__":
    with service() as running:
        main(live=running is None)
