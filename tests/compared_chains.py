"""A chain for `langchain_lunar.evaluate` to compare: two models, each of which is right on rows of its own."""

import asyncio

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_lunar import ChatLunar, LunarRouterChain
from langchain_lunar.evaluate import acompare_runs, compare_runs
from lunar_core import BREAK_TIES, Budget, Prices
from lunar_core.wire.catalogue import Model

MODELS = ["gpt-4o", "gpt-4o-mini"]
TOPICS = ("Prove theorem %d of algebra.", "Write haiku %d.", "What is the capital of country %d?")
PRICES = Prices.of(
    [
        Model(id="gpt-4o", input_per_million=2.5, output_per_million=10),
        Model(id="gpt-4o-mini", input_per_million=0.15, output_per_million=0.6),
    ]
)
PROMPT = ChatPromptTemplate.from_messages([("user", "{question}")])


def make_rows(count, topics=TOPICS):
    """Questions, numbered, of each topic in turn, with the answers that are right."""
    return [
        {
            "inputs": {"question": topics[number % len(topics)] % number},
            "outputs": {"answer": f"answer {number}"},
        }
        for number in range(count)
    ]


def answer_row(request):
    """What a model of the sandbox answers: the large one is right on algebra alone, the small one on all else."""
    prompt = request["messages"][-1]["content"]
    # A request to the router names no model: it chooses who is right.
    model = request.get("model")
    is_right = model is None or (model == "gpt-4o") == ("algebra" in prompt)
    number = "".join(sign for sign in prompt if sign.isdigit())
    return f"answer {number}" if is_right else "no idea"


def compare_chains(rows, evaluator, *, is_async, settings, usd="1", **keywords):
    """The Comparison of the chain's runs; `settings` are those of its models, `keywords` win over what is set here."""
    keywords = {
        "routed": PROMPT
        | LunarRouterChain(models=MODELS, cost_weight=BREAK_TIES, max_tokens=64, **settings)
        | StrOutputParser(),
        "with_model": lambda name: PROMPT | ChatLunar(model=name, max_tokens=64, **settings),
        "evaluator": evaluator,
        "budget": Budget(usd=usd, reserve="worst", prices=PRICES, warn_at=None),
        **keywords,
    }
    if is_async:
        return asyncio.run(acompare_runs(rows, **keywords))
    return compare_runs(rows, **keywords)
