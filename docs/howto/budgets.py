"""A budget per user and day: thriftier when half is used, and then a refusal, before anything is sent."""

from lunar_core import Budget, BudgetExceededError, Lunar, tags

budget = Budget(usd="0.002", per="user", window="day", reserve="0.00075", warn_at=None)
client = Lunar(observers=[budget])

for number in range(1, 20):
    try:
        with tags(user="ada"):
            client.chat.completions.create(
                model="router",
                models=["gpt-4o", "gpt-4o-mini"],
                cost_weight=budget.cost_weight(start=0.5, top=100),
                messages=[{"role": "user", "content": "Name three sights of Lisbon."}],
                max_tokens=100,
            )
    except BudgetExceededError as refusal:
        print(f"call {number} was not sent, and nothing is billed for it")
        print(f"limit {refusal.limit}, spent {refusal.spent}, asked for {refusal.asked} USD")
        break

state = budget.state("ada")
print(
    f"within the limit: {state.spent <= state.limit}, held: {state.held}, refused: {state.refused}"
)
print("another user's budget is whole:", budget.state("grace").remaining)
