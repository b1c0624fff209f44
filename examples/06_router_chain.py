"""The router: whom it would choose, why, and at which price, before anybody is asked; then a chain that asks.

    python examples/06_router_chain.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/06_router_chain.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

from langchain_core.runnables import RunnableLambda
from service import service, usd, weight_name

from langchain_lunar import LunarRouterChain
from lunar_core import BREAK_TIES

QUESTIONS = [
    "Suggest a name for a grey cat.",
    "Prove that there are infinitely many prime numbers.",
    "Which drug dose is safe for a patient with a weak kidney?",
    "Translate into German: The train is late again.",
]


def main() -> None:
    """Decide alone, at three weights of cost; then answer."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    chain = LunarRouterChain(
        models=["gpt-4o", "gpt-4o-mini", "mistral-large-latest"], cost_weight=BREAK_TIES
    )

    # A decision generates nothing and bills nothing. Many are asked for at once.
    # The weight times USD per 1,000 tokens is added to the expected error: below 1 it does no more than break ties.
    for weight in (BREAK_TIES, 22.0, 100.0):
        decide = RunnableLambda(chain.decide).bind(cost_weight=weight)
        print(f"cost_weight={weight_name(weight)}")
        for question, decision in zip(QUESTIONS, decide.batch(QUESTIONS), strict=True):
            print(f"  {decision.selected_model:22} {decision.expected_error:.2f}  {question}")

    print(f"\nWhy, in the router's words:\n{chain.decide(QUESTIONS[1]).reasoning}\n")

    answer = chain.invoke(QUESTIONS[1])
    metadata = answer.response_metadata
    print(
        f"{answer.text}\n  by {metadata['model_name']} for {usd(metadata.get('total_cost_usd'))}\n"
    )

    # When the router fails, here since it has no profile of a model, one of yours is asked, and the answer says so.
    safe = LunarRouterChain(
        models=["gpt-4o", "no-such-model"],
        cost_weight=BREAK_TIES,
        on_routing_error="fallback",
        default_model="gpt-4o",
    )
    metadata = safe.invoke(QUESTIONS[0]).response_metadata
    print(f"{metadata['model_name']} stood in, since: {metadata['routing_error']}")


if __name__ == "__main__":
    with service():
        main()
