"""Objects out of texts: the model has to fill the class, streamed or whole, and each object has its cost.

    python examples/23_extraction.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/23_extraction.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

from itertools import groupby

from llama_index.core import PromptTemplate
from pydantic import BaseModel, Field
from service import service, usd

from llama_index_lunar import LunarLLM, lunar_cost


class Booking(BaseModel):
    """A table at a restaurant."""

    name: str = Field(description="of the guest")
    guests: int
    date: str = Field(description="as YYYY-MM-DD", json_schema_extra={"format": "date"})


PROMPT = PromptTemplate("Take down the booking: {text}")
TEXTS = [
    'Hello, this is "Ada Lovelace". A table for 4 guests on 2026-12-10, please.',
    'We would be 2 guests on 2026-12-24, under the name of "Grace Hopper".',
]


def main(*, knows_tools: bool) -> None:
    """One booking at once, the other as it is being filled in."""
    # A tool that the model must call is surest; where tools are ignored, the prompt has to ask for the object.
    llm = LunarLLM(model="gpt-4o-mini", is_function_calling_model=knows_tools)
    with lunar_cost() as costs:
        booking = llm.structured_predict(Booking, PROMPT, text=TEXTS[0])
    print(f"{booking!r}\n  {costs.total_cost:f} USD\n")

    with lunar_cost() as costs:
        partials = llm.stream_structured_predict(Booking, PROMPT, text=TEXTS[1])
        for seen, _ in groupby(partial.model_dump() for partial in partials):
            print(seen)
    print(f"  {usd(None if costs.unpriced else costs.total_cost)}\n")

    # As an LLM of its own, for all that takes one: query engines answer in objects then.
    answer = llm.as_structured_llm(Booking).complete(TEXTS[0])
    print(answer.raw == booking)


if __name__ == "__main__":
    with service() as running:
        main(knows_tools=running is not None)  # the hosted backend was seen to ignore tools
