"""``lunar-llm models``, ``route`` and ``chat``: the API from a terminal.

The key is read from the environment and nowhere else: arguments are seen by every process of the machine.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lunar_core import ChatCompletion, Completion, RoutingDecision, Usage
from lunar_core.cli.app import AsJson, BaseUrl, Store, app, open_client
from lunar_core.cli.printing import print_answer, print_json, print_note, print_table
from lunar_core.wire.params import ChatParams

Prompt = Annotated[str, typer.Argument(help="What to ask; - reads it from stdin.")]
Candidates = Annotated[
    list[str] | None,
    typer.Option("--candidate", help="A model the router may choose; give it at least twice."),
]
CostWeight = Annotated[
    float | None, typer.Option(help="0 ignores cost (the default); higher prefers cheaper models.")
]


@app.command()
def models(*, as_json: AsJson = False, base_url: BaseUrl = None) -> None:
    """List the models, with their prices where the service says them."""
    with open_client(base_url, None, as_json=as_json) as client:
        catalogue = client.models.list()
    if as_json:
        print_json([model.model_dump(mode="json", exclude_none=True) for model in catalogue])
        return
    print_table(
        ("model", "owner", "USD per 1M tokens in", "cached", "out"),
        [
            (
                model.id,
                model.owned_by or "",
                _price(model.input_per_million),
                _price(model.cache_input_per_million),
                _price(model.output_per_million),
            )
            for model in catalogue
        ],
    )


@app.command()
def route(
    prompt: Prompt,
    *,
    candidate: Candidates = None,
    cost_weight: CostWeight = None,
    store: Store = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Say which model the router would choose, and why. Nothing is generated."""
    with open_client(base_url, store, as_json=as_json) as client:
        decision = client.router.decide(
            messages=_messages(prompt), models=candidate or None, cost_weight=cost_weight
        )
    if as_json:
        print_json(decision.model_dump(mode="json", exclude_none=True))
        return
    print_answer(decision.selected_model + "\n")
    print_note(_why(decision))


@app.command()
def chat(
    prompt: Prompt,
    *,
    model: Annotated[str, typer.Option(help="A model's name; 'router' chooses one.")] = "router",
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    candidate: Candidates = None,
    cost_weight: CostWeight = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to generate at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    store: Store = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask a model; its words are shown as they come, and then what they cost."""
    with open_client(base_url, store, as_json=as_json) as client:
        params: ChatParams = {
            "models": candidate or None,
            "cost_weight": cost_weight,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        create, messages = client.chat.completions.create, _messages(prompt, system)
        if as_json:
            answer = create(model=model, messages=messages, **params)
            print_json(answer.model_dump(mode="json", exclude_none=True))
            return
        with create(model=model, messages=messages, stream=True, **params) as stream:
            try:
                for chunk in stream:
                    print_answer(chunk.choices[0].delta.content or "")
            finally:
                print_answer("\n")
            print_note(_summary(stream.get_final_completion()))


# What goes in


def _messages(prompt: str, system: str | None = None) -> list[dict[str, object]]:
    text = sys.stdin.read() if prompt == "-" else prompt
    instructions: list[dict[str, object]] = (
        [] if system is None else [{"role": "system", "content": system}]
    )
    return [*instructions, {"role": "user", "content": text}]


# What comes out


def _price(usd: float | None) -> str:
    return "" if usd is None else f"{usd:g}"


def _summary(answer: ChatCompletion | Completion) -> str:
    """One line on an answer: who gave it, how long it is, what it cost, how long it took."""
    usage = answer.usage or Usage()
    facts = [answer.model or "model unknown"]
    if usage.total_tokens is not None:
        facts.append(f"{usage.total_tokens:,} tokens")
    facts.append("cost unknown" if usage.cost is None else f"${usage.cost:f}")
    if answer.call.latency_ms is not None:
        facts.append(f"{answer.call.latency_ms / 1000:.1f} s")
    if len(answer.call.attempts) > 1:
        facts.append(f"{len(answer.call.attempts)} attempts")
    return " · ".join(facts)


def _why(decision: RoutingDecision) -> str:
    """What the router said for its choice, a fact a line."""
    facts = {
        "provider": decision.selected_provider or None,
        "expected error": decision.expected_error,
        "cost-adjusted score": decision.cost_adjusted_score,
        "cluster": decision.cluster_id,
    }
    lines = [f"{name}: {fact}" for name, fact in facts.items() if fact is not None]
    return "\n".join([*lines, *([decision.reasoning] if decision.reasoning else [])])
