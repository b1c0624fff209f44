"""A FastAPI service whose calls are attributed to tenants: one client, tags to the last byte, 402 and 429, /healthz."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from lunar_core import AsyncLunar, Budget, BudgetExceededError, Ledger, LunarError, RateLimitError
from lunar_core.asgi import Scope, TagsMiddleware

ledger = Ledger()
budget = Budget(usd="0.001", per="tenant", window="month", reserve="0.0005", warn_at=None)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the whole life of the process: it keeps connections, and is closed at the end."""
    async with AsyncLunar(observers=[ledger, budget]) as client:
        app.state.lunar = client
        yield


def tenant_of(scope: Scope) -> dict[str, str]:
    """Whose request this is. In a real service: the customer of a verified token, not a header."""
    headers = dict(scope.get("headers", []))
    return {"tenant": headers.get(b"x-tenant", b"unknown").decode("latin-1")}


app = FastAPI(lifespan=lifespan)
# A `with tags(…)` inside of a handler ends before a StreamingResponse begins. This lasts until its last byte.
app.add_middleware(TagsMiddleware, tags=tenant_of)


@app.exception_handler(BudgetExceededError)
async def refuse(request: Request, error: BudgetExceededError) -> JSONResponse:
    """The tenant's budget is used up: nothing was sent, nothing is billed."""
    return JSONResponse({"detail": "budget used up", "resets_at": error.resets_at}, 402)


@app.exception_handler(RateLimitError)
async def slow_down(request: Request, error: RateLimitError) -> JSONResponse:
    """The service's own limit was met, after the client's retries."""
    seconds = str(int(error.retry_after or 1))
    return JSONResponse({"detail": "busy"}, 429, headers={"retry-after": seconds})


@app.get("/ask")
async def ask(request: Request, question: str, model: str = "gpt-4o-mini") -> StreamingResponse:
    """Stream an answer. The generator is async: when the reader leaves, the call ends too."""
    stream = await request.app.state.lunar.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=50,
        stream=True,
        stream_usage=True,
        max_retries=0,
    )

    async def texts() -> AsyncIterator[str]:
        async with stream:
            async for chunk in stream:
                if chunk.choices:
                    yield chunk.choices[0].delta.content or ""

    # The first word is here already: a refusal was an exception, with its own status.
    return StreamingResponse(texts(), media_type="text/plain")


@app.get("/healthz")
async def healthz(request: Request) -> dict[str, str]:
    """Whether this process can answer. It asks the list of models, which bills nothing."""
    try:
        await request.app.state.lunar.with_options(total_timeout=2).models.list()
    except LunarError as error:
        raise HTTPException(503, type(error).__name__) from None
    return {"status": "ok"}


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    with TestClient(app) as http:
        print("/healthz", http.get("/healthz").json())
        for tenant in ("acme", "globex"):
            answer = http.get("/ask?question=Say hello", headers={"x-tenant": tenant})
            print(tenant, answer.status_code, answer.text)
        busy = http.get("/ask?question=Hi&model=gpt-4o!429", headers={"x-tenant": "globex"})
        print("globex", busy.status_code, busy.json())
        for _ in range(200):
            answer = http.get("/ask?question=Write 50 words", headers={"x-tenant": "acme"})
            if answer.status_code == 402:
                break
        print("acme", answer.status_code, answer.json()["detail"])
    print(sorted(str(name) for name in ledger.by_tag("tenant")))
