"""A chain of LangChain on a model of Lunar: text out, or a message that says who answered and what was billed.

    python examples/02_chain.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/02_chain.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from service import service, usd

from langchain_lunar import ChatLunar, get_lunar_cost


def main() -> None:
    """One question to a chain; then two chains in a row, and what they cost together."""
    # If the first model fails, the fallbacks are asked, each with its own retries.
    llm = ChatLunar(model="gpt-4o-mini", temperature=0.2, fallbacks=["mistral-small-latest"])
    prompt = ChatPromptTemplate.from_messages(
        [("system", "Answer in one sentence."), ("user", "{question}")]
    )

    answer = (prompt | llm).invoke({"question": "What is the capital of Australia?"})
    print(answer.text)
    metadata, usage = answer.response_metadata, answer.usage_metadata
    print(
        f"  by {metadata['model_name']}: {usage['input_tokens']} + {usage['output_tokens']} tokens"
    )
    print(f"  {usd(metadata.get('input_cost_usd'))} + {usd(metadata.get('output_cost_usd'))}")
    print(f"  = {usd(metadata.get('total_cost_usd'))}, as billed\n")

    # With a parser at its end a chain gives text; what it cost, callbacks and this block know.
    write = ChatPromptTemplate.from_template("Write a haiku about {thing}.") | llm
    translate = ChatPromptTemplate.from_template("Translate into French:\n{poem}") | llm
    chain = {"poem": write | StrOutputParser()} | translate | StrOutputParser()
    with get_lunar_cost() as cost:
        print(chain.invoke({"thing": "the first snow"}))
    print(f"  {cost.ledger.total.calls} calls, {cost.total_cost:f} USD")


if __name__ == "__main__":
    with service():
        main()
