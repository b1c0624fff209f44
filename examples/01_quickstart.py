"""Accuracy and cost by weight, whom a router chooses for six prompts and why, one answer streamed, what was saved.

    make demo                                                 on this machine, no key needed
    make demo ARGS="--upstream http://127.0.0.1:11434/v1 --upstream-model llama3.2"    answers of Ollama, say
    LUNAR_API_KEY=… python examples/01_quickstart.py --live   on the hosted service: this costs money

Offline the answers are scripted and the bills are the sandbox's. The routes are the vendor's own engine's where its
package ``opentracy`` is installed. A key in the environment is used with ``--live`` alone.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable
from profiles import Profiles, read_profiles
from service import service, usd, weight_name

from langchain_lunar import ChatLunar, LunarCostCallbackHandler, LunarRouterChain
from lunar_core import BREAK_TIES, Ledger, Lunar, RoutingDecision
from lunar_core.sandbox import Sandbox

# Five that are near a topic the engine was measured on (cosine to its centre 0.45 to 0.56, by the engine's own
# embedding, 9 to 23 questions), and one whose topic has no question at all. Each with its scripted answer.
ANSWERS = {
    "How is the gross domestic product of a country measured?": "As the market value of all final goods and services "
    "that are made in it within a year, added up by what is spent: consumption, investment, government, net exports.",
    "Solve for x: 2x + 7 = 3x - 5.": "Subtract 2x on both sides: 7 = x - 5. So x = 12.",
    "Which enzyme unwinds DNA during replication?": "Helicase. It breaks the hydrogen bonds between the bases.",
    "Which planet has the largest moon?": "Jupiter: Ganymede is larger than the planet Mercury.",
    "What is the opportunity cost of a decision in microeconomics?": "The value of the best alternative that was "
    "given up for it.",
    "What is the likeliest diagnosis for chest pain with a swollen calf and sudden breathlessness?": "A pulmonary "
    "embolism that came from a deep vein thrombosis. This is an emergency.",
}
WEIGHTS = (0.0, BREAK_TIES, 20.0, 40.0, 80.0)
REPORT = Path(__file__).with_name("01_report.html")
MAX_TOKENS = 160
HAS_UPSTREAM = any(word.startswith("--upstream") for word in sys.argv)


def main(running: Sandbox | None) -> None:
    """Show all of it, one part after the other."""
    profiles: Profiles | None = read_profiles()
    if running is None and profiles.samples is None:
        profiles = None  # of the service, a table that was made up says nothing
    say_what_is_real(running)
    show_trade_off(profiles)
    show_decisions(profiles)
    ledger = Ledger()
    show_one_answer(ledger)
    show_savings(ledger)
    ledger.report(by=["model"]).to_html(REPORT)
    print(f"\nThe report of these calls, for a browser:\n  {REPORT}")
    if running is not None and ledger.total_cost != running.total_billed():
        sys.exit(f"The sandbox billed {running.total_billed():f} USD, and the ledger another sum.")


def say_what_is_real(running: Sandbox | None) -> None:
    """Which of it is the vendor's, and which is made up."""
    if running is None:
        count = 2 * len(ANSWERS) + 1
        print(
            f"The hosted service gives {count} answers of {MAX_TOKENS} tokens at most: that costs money."
        )
        return
    answers = "a server of yours" if HAS_UPSTREAM else "scripted, the same from every model"
    engine = f"the vendor's engine, opentracy {running.engine_version}"
    routes = engine if running.router == "engine" else "made up, as no wheel of the engine is here"
    print(f"Routes: {routes}.\nAnswers: {answers}. Bills: made up.")


def show_trade_off(profiles: Profiles | None) -> None:
    """Accuracy and cost by weight: exact, as it is counted from the profiles themselves."""
    heading("1. Accuracy and cost, by the weight of cost")
    if profiles is None:
        print("Unknown here: the router's profiles come with the package of its engine, opentracy.")
        return
    is_measured = profiles.samples is not None
    print(
        "In sample, 500 exam questions, ten models of 2024 (six are candidates here)."
        if is_measured
        else "By the sandbox's table, which is made up: nobody measured this."
    )
    print(f"\n{'cost_weight':>13}  accuracy  cost")
    rows = [("always gpt-4o", profiles.accuracy_of_gpt_4o, 1.0)]
    rows += [(weight_name(weight), *profiles.trade_off(weight)) for weight in WEIGHTS]
    for name, accuracy, cost in rows:
        bar = "█" * round(cost * 30)
        print(f"{name:>13}  {accuracy:8.1%}  {cost:4.0%} {bar}")
    if is_measured:
        print(
            "\nThe saving follows from the prices. The gain in accuracy may be chance: each topic's model"
        )
        print("was chosen by the same few questions that it is scored on here.")


def show_decisions(profiles: Profiles | None) -> None:
    """Whom the router chooses for each prompt, on how many questions that stands, and who would be next."""
    heading("2. Six prompts, routed: nothing is generated, nothing is billed")
    with Lunar() as lunar:
        for prompt in ANSWERS:
            decision = lunar.router.decide(
                messages=[{"role": "user", "content": prompt}], cost_weight=BREAK_TIES
            )
            print(f"{shorten(prompt, 79)}\n  {reason(decision, profiles)}")


def reason(decision: RoutingDecision, profiles: Profiles | None) -> str:
    """A decision in one line."""
    chosen, error, topic = decision.selected_model, decision.expected_error, decision.cluster_id
    if error is None:
        return chosen
    if topic is None or profiles is None or chosen not in profiles.errors:
        return f"{chosen}: error {error:.2f}"
    questions = profiles.questions(topic)
    if profiles.samples is not None and not profiles.samples[topic]:
        return f"{chosen}: {questions}, so by its overall error, {error:.2f}"
    model, other = profiles.alternative(chosen, topic)
    return f"{chosen}: error {error:.2f}, {questions}; next {model} {other:.2f}"


def show_one_answer(ledger: Ledger) -> None:
    """One answer as it comes, through a chain of LangChain's, with its route and its bill."""
    heading("3. One answer, streamed")
    question = next(iter(ANSWERS))
    costs = LunarCostCallbackHandler()
    print(f"> {question}")
    for text in routed().stream({"question": question}, {"callbacks": [costs]}):
        print(text, end="", flush=True)
    (entry,) = costs.ledger
    ledger.add(entry)
    print(
        f"\n  routed to {entry.model_name}, {entry.total_tokens} tokens, billed {usd(entry.cost)}"
    )
    print(f"  the callback handler's total: {usd(None if costs.unpriced else costs.total_cost)}")


def show_savings(ledger: Ledger) -> None:
    """The same prompts by the router and always by gpt-4o, as they were billed."""
    heading("4. The same prompts, routed and always on gpt-4o")
    questions = [{"question": question} for question in ANSWERS]
    bills: list[list[Decimal | None]] = []
    models: list[str] = []
    for chain in (routed(), plain("gpt-4o")):
        costs = LunarCostCallbackHandler()
        for question in questions:
            chain.invoke(question, {"callbacks": [costs]})
        entries = list(costs.ledger)
        for entry in entries:
            ledger.add(entry)
        bills.append([entry.cost for entry in entries])
        models = models or [entry.model_name for entry in entries]
    print(f"{'':30}  {'routed to':20}  {'USD':>10}  {'gpt-4o':>10}")
    for prompt, model, cost, alone in zip(ANSWERS, models, *bills, strict=True):
        print(f"{shorten(prompt, 30):30}  {model:20}  {amount(cost):>10}  {amount(alone):>10}")
    sums = [sum(filter(None, costs), Decimal(0)) for costs in bills]
    if None in [*bills[0], *bills[1]] or not sums[1]:
        print("What was saved is unknown: the service did not state every cost.")
        return
    print(f"{'together':30}  {'':20}  {amount(sums[0]):>10}  {amount(sums[1]):>10}")
    print(f"Saved {sums[1] - sums[0]:f} USD, {1 - sums[0] / sums[1]:.0%}, as billed.", end=" ")
    print("Whether the answers are as good, this does not show.")


def routed() -> Runnable[dict[str, str], str]:
    """A chain whose model the router chooses: of those that err equally often, the cheapest."""
    router = LunarRouterChain(cost_weight=BREAK_TIES, max_tokens=MAX_TOKENS)
    return prompt_template() | router | StrOutputParser()


def plain(model: str) -> Runnable[dict[str, str], str]:
    """The same chain with one model."""
    return prompt_template() | ChatLunar(model=model, max_tokens=MAX_TOKENS) | StrOutputParser()


def prompt_template() -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages([("user", "{question}")])


def script(request: dict[str, object]) -> str | None:
    """What the sandbox's models say, whichever of them is asked: so that a difference in bills is one in prices."""
    messages = request["messages"]
    return ANSWERS.get(messages[-1]["content"]) if isinstance(messages, list) else None


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}")


def shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def amount(cost: Decimal | None) -> str:
    """An amount of the table; what the service did not state is unknown, never 0."""
    return "unknown" if cost is None else f"{cost:.8f}"


if __name__ == "__main__":
    has_engine = read_profiles().samples is not None
    with service(
        router="engine" if has_engine else "table", delay=0.02 if sys.stdout.isatty() else 0.0
    ) as sandbox:
        if sandbox is not None and not HAS_UPSTREAM:
            sandbox.answer(script)
        main(sandbox)
