"""Where an example asks: the sandbox on this machine, or with ``--live`` the hosted service (that costs money)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, Literal

from lunar_core import sandbox


@contextmanager
def service(
    *, router: Literal["table", "engine"] = "table", delay: float = 0.0
) -> Iterator[sandbox.Sandbox | None]:
    """Set LUNAR_API_KEY and LUNAR_BASE_URL, and end with what the sandbox billed; live, both are yours.

    Gives the sandbox, or None for the hosted service. With ``--upstream URL`` a server of yours answers behind the
    sandbox, which still decides routes and makes up bills. ``delay``: seconds between the sandbox's streamed words.
    """
    options = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--live", action="store_true", help="ask the hosted service; costs money")
    options.add_argument(
        "--upstream",
        metavar="URL",
        help="let an OpenAI-compatible server answer, Ollama's http://127.0.0.1:11434/v1, say; bills stay made up",
    )
    options.add_argument("--upstream-model", metavar="NAME", help="the model to ask there")
    chosen = options.parse_args()
    if chosen.live:
        if not os.environ.get("LUNAR_API_KEY"):
            sys.exit("--live needs LUNAR_API_KEY")
        yield None
        return
    with sandbox.run(
        router=router,
        delay=delay,
        upstream=chosen.upstream,
        upstream_model=chosen.upstream_model,
    ) as running:
        os.environ |= {"LUNAR_API_KEY": running.api_key, "LUNAR_BASE_URL": running.url}
        yield running
        print(f"\n{_bill(running)}")


def usd(cost: float | Decimal | None) -> str:
    """An amount to print. What the service did not state is unknown, never 0."""
    return "unknown USD" if cost is None else f"{cost:.8f} USD"


def weight_name(weight: float) -> str:
    """A weight of cost to print, without an exponent."""
    return f"{weight:.6f}".rstrip("0").rstrip(".")


def _bill(running: sandbox.Sandbox) -> str:
    # An answer whose reader hangs up is billed a moment later.
    bills = running.billed(at_least=sum(map(_is_billed, running.requests())))
    untold = [bill for bill in bills if not bill["usage_sent"]]
    text = f"The sandbox billed {_sum(bills):f} USD for {len(bills)} answers."
    if untold:
        text += f"\n{_sum(untold):f} USD of that is for {len(untold)} whose readers left before they were told."
    return text


def _is_billed(request: Mapping[str, Any]) -> bool:
    """Whether this is a request that was answered, and not with a decision alone."""
    answered = request["method"] == "POST" and request["status"] == 200
    return answered and json.loads(request["body"]).get("execute") is not False


def _sum(bills: Iterable[Mapping[str, Any]]) -> Decimal:
    return sum((Decimal(repr(bill["total_cost_usd"])) for bill in bills), Decimal(0))
