"""What callers write, as type checkers see it. Checked by mypy and pyright in strict mode, never run.

A line with an ``ignore`` is one that must be refused: the checkers complain of ignores without need.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from decimal import Decimal

from typing_extensions import assert_type

from lunar_core import (
    AsyncLunar,
    AsyncStream,
    Budget,
    BudgetExceededError,
    BudgetState,
    CallInfo,
    CallStart,
    ChatCompletion,
    ChatCompletionChunk,
    Completion,
    CompletionChunk,
    Ledger,
    Lunar,
    Model,
    Observer,
    Outcome,
    OutputTruncatedError,
    Profiles,
    Provider,
    RateLimitError,
    RoutedCompletion,
    RoutingDecision,
    Stream,
    Timeout,
    Totals,
    UpstreamFailure,
    Usage,
    observing,
    tags,
)

HELLO: list[dict[str, object]] = [{"role": "user", "content": "Hello!"}]


def clients_are_made_of_these() -> None:
    Lunar()
    Lunar("pk_live_...", base_url="https://gateway.example", timeout=30, max_retries=0)
    Lunar(jwt=lambda: "token", fallbacks=["gpt-4o"], observers=[Ledger(), Watching()])
    Lunar(timeout=(5, 600), total_timeout=60.0, default_headers={"x-team": "a"})
    AsyncLunar(timeout=Timeout(read=None), allow_http=True)
    Lunar(api_key=7)  # type: ignore[arg-type]
    Lunar("pk_live_...", "https://gateway.example")  # type: ignore[call-arg]
    Lunar(retries=3)  # type: ignore[call-arg]


def costs_and_failures_are_typed(client: Lunar) -> None:
    answer = client.chat.completions.create(model="m", messages=HELLO)
    assert_type(answer.cost, Decimal | None)
    stream = client.completions.create(model="m", prompt="p", stream=True)
    assert_type(stream.cost, Decimal | None)
    for call in answer.choices[0].message.tool_calls or []:
        assert_type(call.function.name, str)
    error = OutputTruncatedError("half", output="{", token_limit=5)
    assert_type((error.output, error.token_limit, error.is_retryable), tuple[str, int | None, bool])
    assert_type(error.upstream, UpstreamFailure | None)
    assert_type(error.partial, ChatCompletion | Completion | None)


def stream_types_the_answer(client: Lunar, *, streamed: bool) -> None:
    chat, text, router = client.chat.completions, client.completions, client.router

    assert_type(chat.create(model="gpt-4o", messages=HELLO), ChatCompletion)
    assert_type(chat.create(model="gpt-4o", messages=HELLO, stream=False), ChatCompletion)
    assert_type(
        chat.create(model="gpt-4o", messages=HELLO, stream=True), Stream[ChatCompletionChunk]
    )
    assert_type(
        chat.create(model="gpt-4o", messages=HELLO, stream=streamed),
        ChatCompletion | Stream[ChatCompletionChunk],
    )
    assert_type(text.create(model="gpt-4o", prompt="Hello!"), Completion)
    assert_type(text.create(model="gpt-4o", prompt="Hello!", stream=True), Stream[CompletionChunk])
    assert_type(router.create(messages=HELLO), RoutedCompletion)
    assert_type(router.create(messages=HELLO, execute=False), RoutedCompletion)
    assert_type(router.create(messages=HELLO, stream=True), Stream[ChatCompletionChunk])
    assert_type(
        router.create(messages=HELLO, stream=bool(HELLO)),
        RoutedCompletion | Stream[ChatCompletionChunk],
    )


def the_catalogue_is_typed(client: Lunar) -> None:
    assert_type(client.router.decide(messages=HELLO, cost_weight=0.5), RoutingDecision)
    assert_type(client.router.profiles(), Profiles)
    assert_type(client.models.list(), list[Model])
    assert_type(client.models.prices(), list[Model])
    assert_type(client.providers.list(model="gpt-4o"), list[Provider])


def answers_are_typed(answer: ChatCompletion, text: Completion) -> None:
    assert_type(answer.choices[0].message.content, str | None)
    assert_type(answer.choices[0].finish_reason, str | None)
    assert_type(text.choices[0].text, str)
    assert_type(answer.routing, RoutingDecision | None)
    assert_type(answer.call, CallInfo)
    assert_type(answer.usage, Usage | None)
    if answer.usage is not None:
        assert_type(answer.usage.cost, Decimal | None)
        assert_type(answer.usage.total_cost_usd, float | None)


def streams_are_typed(stream: Stream[ChatCompletionChunk]) -> None:
    with stream as entered:
        assert_type(entered, Stream[ChatCompletionChunk])
        for chunk in entered:
            assert_type(chunk, ChatCompletionChunk)
            assert_type(chunk.choices[0].delta.content, str | None)
    assert_type(iter(stream), Iterator[ChatCompletionChunk])
    assert_type(next(stream), ChatCompletionChunk)
    assert_type(stream.usage, Usage | None)
    assert_type(stream.routing, RoutingDecision | None)
    assert_type(stream.get_final_completion(), ChatCompletion | Completion)


async def the_async_client_is_the_same_with_await(client: AsyncLunar) -> None:
    chat = client.chat.completions
    assert_type(await chat.create(model="gpt-4o", messages=HELLO), ChatCompletion)
    stream = await chat.create(model="gpt-4o", messages=HELLO, stream=True)
    assert_type(stream, AsyncStream[ChatCompletionChunk])
    assert_type(aiter(stream), AsyncIterator[ChatCompletionChunk])
    async with stream:
        async for chunk in stream:
            assert_type(chunk, ChatCompletionChunk)
    assert_type(await client.router.decide(messages=HELLO), RoutingDecision)
    assert_type(await client.models.list(), list[Model])
    assert_type(await client.models.prices(), list[Model])
    async with AsyncLunar() as entered:
        assert_type(entered, AsyncLunar)


def parameters_are_checked(client: Lunar) -> None:
    create = client.chat.completions.create
    create(
        model="router",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        models=["gpt-4o", "gpt-4o-mini"],
        cost_weight=0.3,
        temperature=0,
        stop="END",
        tools=[{"type": "function", "function": {"name": "f"}}],
        timeout=30,
        fallbacks=["gpt-4o"],
        extra_body={"x_of_tomorrow": 1},
    )
    create(model="gpt-4o")  # type: ignore[call-overload]
    create(model="gpt-4o", messages=HELLO, temperature="hot")  # type: ignore[call-overload]
    create(model="gpt-4o", messages=HELLO, temprature=0.5)  # type: ignore[call-overload]
    client.completions.create(model="gpt-4o", prompt=["a"])  # type: ignore[call-overload]


def errors_are_typed(client: Lunar) -> float | None:
    try:
        client.models.list()
    except RateLimitError as error:
        assert_type(error.retry_after, float | None)
        assert_type(error.status_code, int | None)
        assert_type(error.partial, ChatCompletion | Completion | None)
        return error.retry_after
    return None


class Watching:
    """Any class with these two methods is an Observer."""

    def before(self, call: CallStart, /) -> None:
        assert_type(call.tags["user"], str)

    def after(self, outcome: Outcome, /) -> None:
        assert_type(outcome.usage, Usage | None)


class Deaf:
    """One of the two is not enough."""

    def before(self, call: CallStart, /) -> None: ...


def observers_are_checked() -> None:
    watching: Observer = Watching()
    Lunar(observers=[watching])
    Lunar(observers=[Deaf()])  # type: ignore[list-item]


def money_is_typed(ledger: Ledger) -> None:
    with tags(user="u1"):
        assert_type(ledger.total_cost, Decimal)
        assert_type(ledger.total, Totals)
        assert_type(ledger.by_tag("user"), dict[str | None, Totals])
        assert_type(ledger.by(lambda entry: entry.cost is None), dict[bool, Totals])


def budgets_are_typed(client: Lunar, ledger: Ledger) -> Decimal | int | None:
    budget = Budget(usd="5", per="user", window=timedelta(hours=1), ledger=ledger)
    observer: Observer = budget
    Budget(tokens=1000, on_exceed=lambda error: error.key == "vip", warn_at=None)
    Budget(5, reserve="worst", timezone="Europe/Rome", unpriced="allow")
    Budget(calls="many")  # type: ignore[arg-type]
    Budget(calls=1, window="year")  # type: ignore[arg-type]
    assert_type(budget.state("u1"), BudgetState)
    assert_type(budget.states(), dict[str | None, BudgetState])
    weight = budget.cost_weight(1, start=0.5)
    assert_type(weight(), float)
    try:
        with observing(observer):
            client.chat.completions.create(model="router", messages=HELLO, cost_weight=weight)
    except BudgetExceededError as error:
        assert_type(error.resets_at, float | None)
        return error.asked
    return None
