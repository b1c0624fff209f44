"""Objects out of texts on the routed model: whole, with their bill, as a dict, and while they are being filled in.

    python examples/05_structured_output.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/05_structured_output.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

from langchain_core.prompts import ChatPromptTemplate
from pydantic import BaseModel, Field
from service import service, usd
from typing_extensions import TypedDict

from langchain_lunar import ChatLunar
from lunar_core import BREAK_TIES


class Booking(BaseModel):
    """A table at a restaurant."""

    name: str = Field(description="of the guest")
    guests: int
    date: str = Field(description="as YYYY-MM-DD", json_schema_extra={"format": "date"})


class Trip(TypedDict):
    """A journey."""

    origin: str
    destination: str


BOOKINGS = [
    'Hello, this is "Ada Lovelace". A table for 4 guests on 2026-12-10, please.',
    'We would be 2 guests on 2026-12-24, under the name of "Grace Hopper".',
]


def main(*, knows_tools: bool) -> None:
    """The same model, made to answer in the form of a class."""
    # Of models that err equally often, the cheapest; at weight 0 their order decides, often for the dearest.
    llm = ChatLunar(model="router", models=["gpt-4o", "gpt-4o-mini"], cost_weight=BREAK_TIES)
    prompt = ChatPromptTemplate.from_template("Take down the booking: {text}")

    # A forced tool call is surest; where tools are ignored, the prompt has to ask for the object.
    method = "function_calling" if knows_tools else "prompt"
    chain = prompt | llm.with_structured_output(Booking, method=method)
    for booking in chain.batch([{"text": text} for text in BOOKINGS]):
        print(repr(booking))

    # The raw message beside the object says who filled it in, and what that cost. A text that doesn't fit is no
    # exception then: it is in "parsing_error".
    both = (prompt | llm.with_structured_output(Booking, method=method, include_raw=True)).invoke(
        {"text": BOOKINGS[0]}
    )
    metadata = both["raw"].response_metadata
    print(
        f"\n{both['parsed']!r}\n  by {metadata['model_name']} for {usd(metadata.get('total_cost_usd'))}"
    )
    print(f"  parsing error: {both['parsing_error']}\n")

    # The providers' own structured output; dicts of a TypedDict, growing while they are streamed.
    planner = llm.with_structured_output(Trip, method="json_schema" if knows_tools else "prompt")
    for partial in planner.stream("I want to go from Lisbon to Porto by train."):
        print(partial)


if __name__ == "__main__":
    with service() as running:
        main(knows_tools=running is not None)  # the hosted backend was seen to ignore tools
