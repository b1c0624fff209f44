"""A budget for each user and day that first makes the router thrifty, and then refuses, before anything is sent.

    python examples/31_budget.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/31_budget.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

from service import service, usd

from lunar_core import Budget, BudgetExceededError, Lunar, tags

QUESTION = "Name three sights of Lisbon."


def main() -> None:
    """Ask the same for two users until the budget of one is used up."""
    # What a call may take is held while it is under way: any number of calls at once stay within the limit.
    budget = Budget(usd="0.002", per="user", window="day", reserve="0.00075", warn_at=None)
    weigh = budget.cost_weight(start=0.5, top=100)
    client = Lunar(observers=[budget])
    print("user     weight  model         of the day's 0.002 USD")
    for user in [*["ada"] * 13, "grace"]:
        with tags(user=user):
            weight = weigh()
            try:
                answer = client.chat.completions.create(
                    model="router",
                    models=["gpt-4o", "gpt-4o-mini"],
                    cost_weight=weigh,
                    messages=[{"role": "user", "content": QUESTION}],
                    max_tokens=100,
                )
            except BudgetExceededError as refusal:
                print(
                    f"{user:7}  {weight:6.1f}  refused       {usd(refusal.spent)} spent, {refusal.asked} asked"
                )
                continue
            print(
                f"{user:7}  {weight:6.1f}  {answer.model:12}  {usd(budget.state(user).spent)} spent"
            )
    state = budget.state("ada")
    print(
        f"\nada: {state.calls} calls let through, {state.refused} refused; all {usd(state.spent)}"
    )


if __name__ == "__main__":
    with service():
        main()
