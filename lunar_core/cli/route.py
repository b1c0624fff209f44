"""``lunar-llm route``: the model that the router would choose, and why."""

from __future__ import annotations

from lunar_core import RoutingDecision
from lunar_core.cli.app import AsJson, BaseUrl, Store, app, open_client
from lunar_core.cli.inputs import (
    Candidates,
    CostWeight,
    Prompt,
    checked_candidates,
    messages_of,
    read_prompt,
)
from lunar_core.cli.printing import print_answer, print_json, print_note
from lunar_core.types.decision_forms import facts_of


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
            messages=messages_of(read_prompt(prompt)),
            models=checked_candidates(candidate),
            cost_weight=cost_weight,
        )
    if as_json:
        print_json(decision.model_dump(mode="json", exclude_none=True))
        return
    print_answer(decision.selected_model + "\n")
    print_note(_why(decision))


def _why(decision: RoutingDecision) -> str:
    """The router's reasons, one fact per line, without the chosen model, which is the answer itself."""
    facts = [(name, text) for name, text in facts_of(vars(decision)) if name != "model"]
    return "\n".join(text if name == "reasoning" else f"{name}: {text}" for name, text in facts)
