"""What streams cost: stated at the end, or estimated and marked, or unknown; never 0 by mistake."""

from lunar_core import Ledger, Lunar, Prices

with Lunar() as client:
    prices = Prices.of(client.models.prices())  # for streams that state no cost

ledger = Ledger(prices=prices)
client = Lunar(observers=[ledger])
question = [{"role": "user", "content": "Name three rivers of France."}]
long_question = [{"role": "user", "content": "Write 5000 words about rivers."}]

# A stream that is read to its end. `cost` is None until then, and stays None where nobody stated it.
with client.chat.completions.create(
    model="gpt-4o-mini", messages=question, stream=True, stream_usage=True
) as stream:
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
print("stated:", stream.cost)
print("text:", text)

# One that is left: the connection is freed, and the service may bill what it had written.
with client.chat.completions.create(
    model="gpt-4o-mini", messages=long_question, stream=True, stream_usage=True
) as stream:
    next(stream)

for entry in ledger:
    marked = f"{entry.estimate.source} prices" if entry.estimate else "no estimate"
    print(f"{entry.status:7}  cost {entry.cost}, {marked}")
total = ledger.total
print(f"{total.cost:f} USD billed, {total.unpriced} without a bill, {total.unknown} unknown")
