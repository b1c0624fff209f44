"""A web handler that attributes each call to its user, in a ledger that outlives the process and is read by another.

    python examples/30_cost_per_user.py                             on this machine, no key needed
    LUNAR_API_KEY=… python examples/30_cost_per_user.py --live      on the hosted service: this costs money

Offline, the sandbox answers: its texts are made up by a rule, its prices resemble the providers’ own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
from service import service, usd
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lunar_core import AsyncLunar, Ledger, Prices, tags

VISITS = [
    ("ada", "Write a haiku."),
    ("ada", "Prove that 7 is prime."),
    ("grace", "What is a compiler?"),
]


def make_app(client: AsyncLunar) -> Starlette:
    """Build the service: ``POST /ask`` answers a question of the user that the header names."""

    async def ask(request: Request) -> JSONResponse:
        question = (await request.body()).decode()
        # Whatever is called in this block, also in tasks that start here, is attributed to the user.
        with tags(user=request.headers["x-user"], feature="ask"):
            answer = await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": question}]
            )
        return JSONResponse({"answer": answer.choices[0].message.content, "usd": str(answer.cost)})

    return Starlette(routes=[Route("/ask", ask, methods=["POST"])])


async def serve(path: Path) -> None:
    """Serve some visits. The ledger writes from a thread of its own: no visitor waits for the disk."""
    async with AsyncLunar() as asker:
        prices = Prices.of(await asker.models.prices())  # for what comes without a stated cost
    with Ledger.open(path, prices=prices) as ledger:
        async with AsyncLunar(observers=[ledger]) as client:
            transport = httpx.ASGITransport(app=make_app(client))
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as visitors:
                calls = [
                    visitors.post("/ask", headers={"x-user": user}, content=question)
                    for user, question in VISITS
                ]
                for (user, _), response in zip(VISITS, await asyncio.gather(*calls), strict=True):
                    print(f"{user:6} paid {response.json()['usd']} USD")


def report(path: Path) -> Iterator[str]:
    """What a look from elsewhere tells: another process, a report, a notebook."""
    with Ledger.open(path, read_only=True) as ledger:
        today = ledger.where(since=timedelta(days=1))
        yield "user   calls  cost"
        for (user,), totals in sorted(today.group("tag:user").items(), key=str):
            yield f"{user:6} {totals.calls:5}  {usd(totals.cost)}"
        yield f"Together {usd(today.total_cost)}, {today.unpriced} unpriced."


if __name__ == "__main__":
    with service(), tempfile.TemporaryDirectory() as folder:
        asyncio.run(serve(Path(folder) / "costs.db"))
        print(*report(Path(folder) / "costs.db"), sep="\n")
