"""A client of the caller's own, httpx's or httpx2's, carries the calls: what then holds, and what it is spared."""

import asyncio
import contextlib
import inspect
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import httpx2
import pytest

from lunar_core import (
    APIConnectionError,
    APIStatusError,
    APIStreamError,
    APITimeoutError,
    AsyncLunar,
    ConfigurationError,
    Ledger,
    Lunar,
    LunarError,
    RateLimitError,
)
from tests.faults_steps import (
    body_of,
    chunk,
    completion,
    encode,
    gzipped,
    hang,
    reply,
    reset,
    spoken,
    sse,
    wait,
)

LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
KEY = "pk_live_4e0b7a2c91d8"
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello!"}]}


class Sync:
    """A Lunar through the caller's client, in a plain call or a stream."""

    def __init__(self, library, server, **options):
        self.own = library.Client(headers={"x-caller": "kept"})
        self.ledger = Ledger()
        self._client = Lunar(
            KEY, base_url=server.origin, http_client=self.own, observers=[self.ledger], **options
        )

    def plain(self, **params):
        return self._client.chat.completions.create(**QUESTION, **params)

    def streamed(self, **params):
        with self._client.chat.completions.create(**QUESTION, stream=True, **params) as stream:
            return [chunk.choices[0].delta.content or "" for chunk in stream]

    def hook(self, event, function):
        self.own.event_hooks = {event: [function]}

    def leave(self):
        self._client.close()

    def close(self):
        self.leave()
        self.own.close()

    end = close


class Async:
    """The same through an AsyncLunar, from a loop that runs for the length of the test."""

    def __init__(self, library, server, **options):
        self._loop = asyncio.new_event_loop()
        self.own = library.AsyncClient(headers={"x-caller": "kept"})
        self.ledger = Ledger()
        self._client = AsyncLunar(
            KEY, base_url=server.origin, http_client=self.own, observers=[self.ledger], **options
        )

    def plain(self, **params):
        return self._loop.run_until_complete(
            self._client.chat.completions.create(**QUESTION, **params)
        )

    def streamed(self, **params):
        async def read():
            create = self._client.chat.completions.create
            async with await create(**QUESTION, stream=True, **params) as stream:
                return [chunk.choices[0].delta.content or "" async for chunk in stream]

        return self._loop.run_until_complete(read())

    def hook(self, event, function):
        async def called(message):
            done = function(message)
            if inspect.isawaitable(done):
                await done

        self.own.event_hooks = {event: [called]}

    def leave(self):
        self._loop.run_until_complete(self._client.aclose())

    def close(self):
        self.leave()
        self._loop.run_until_complete(self.own.aclose())

    def end(self):
        self.close()
        self._loop.close()


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def through(request):
    """Make a Lunar that calls through a client of the caller's own; both are closed at the end."""
    made = []

    def make(library, server, **options):
        made.append(request.param(library, server, **options))
        return made[-1]

    yield make
    for one in made:
        one.end()


@LIBRARIES
def test_the_callers_client_carries_the_call_with_its_own_headers_and_our_key(
    library, through, fault_server
):
    fault_server.script(reply(json=completion("Hello")), sse(*spoken("Hel", "lo")))
    lunar = through(library, fault_server)
    assert lunar.plain().choices[0].message.content == "Hello"
    assert "".join(lunar.streamed()) == "Hello"
    for request in fault_server.requests:
        headers = {name.lower(): value for name, value in request.headers}
        assert (headers["x-api-key"], headers["x-caller"]) == (KEY, "kept")
    assert len(lunar.ledger) == 2


@LIBRARIES
def test_closing_lunar_leaves_the_callers_client_open(library, through, fault_server):
    fault_server.script(reply(json=completion("Hello")))
    lunar = through(library, fault_server)
    lunar.plain()
    lunar.leave()
    assert not lunar.own.is_closed


@LIBRARIES
def test_a_client_of_the_other_kind_is_refused(library):
    own, other = library.Client(), library.AsyncClient()
    for kind, wrong in ((Lunar, other), (AsyncLunar, own), (Lunar, 7), (AsyncLunar, library)):
        with pytest.raises(ConfigurationError, match=r"^http_client: "):
            kind(KEY, http_client=wrong)
    own.close()
    asyncio.run(other.aclose())


@LIBRARIES
def test_its_failures_are_told_by_our_names_and_retried(library, through, fault_server):
    fault_server.script(reset, reply(json=completion("Hello")))
    lunar = through(library, fault_server, max_retries=1)
    answer = lunar.plain()
    assert [attempt.error is None for attempt in answer.call.attempts] == [False, True]


@LIBRARIES
@pytest.mark.parametrize("way", ["plain", "streamed"])
@pytest.mark.parametrize(("event", "requests"), [("request", 0), ("response", 1)])
def test_a_bug_in_a_hook_of_its_own_is_told_as_one_and_never_tried_again(
    event, requests, way, library, through, fault_server
):
    fault_server.always(reply(503))
    lunar = through(library, fault_server, max_retries=2, fallbacks=["another"])
    lunar.hook(event, lambda _message: {}["trace"])
    with pytest.raises(LunarError, match=r"KeyError: 'trace'") as caught:
        getattr(lunar, way)()
    assert type(caught.value) is LunarError
    assert f"{__file__}:" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(fault_server.requests) == requests


@LIBRARIES
@pytest.mark.parametrize("way", ["plain", "streamed"])
def test_so_is_the_use_of_one_that_was_closed(way, library, through, fault_server):
    """Httpx has errors of its own for its misuse."""
    lunar = through(library, fault_server, max_retries=2)
    lunar.close()
    with pytest.raises(LunarError, match="closed") as caught:
        getattr(lunar, way)()
    assert (type(caught.value), len(fault_server.requests)) == (LunarError, 0)


@LIBRARIES
@pytest.mark.parametrize("way", ["plain", "streamed"])
def test_each_kind_of_failure_has_its_class(library, way, through, fault_server):
    lunar = through(library, fault_server, max_retries=0)
    fault_server.script(reset, reply(429, b'{"retry_after": 7}'), hang)
    with pytest.raises(APIConnectionError):
        getattr(lunar, way)()
    with pytest.raises(RateLimitError) as limited:
        getattr(lunar, way)()
    assert limited.value.retry_after == 7
    with pytest.raises(APITimeoutError):
        getattr(lunar, way)(timeout=0.2)


@LIBRARIES
@pytest.mark.parametrize("way", ["plain", "streamed"])
def test_a_total_timeout_ends_its_silence(library, way, through, fault_server):
    lunar = through(library, fault_server, timeout=60, total_timeout=60)
    fault_server.always(hang)
    started = time.monotonic()
    with pytest.raises(APITimeoutError):
        getattr(lunar, way)(total_timeout=0.2)
    assert time.monotonic() - started < 10


@LIBRARIES
def test_a_stream_that_breaks_keeps_what_it_had_said(library, through, fault_server):
    fault_server.script(sse(chunk("Hel"), reset))
    lunar = through(library, fault_server)
    with pytest.raises(APIStreamError) as broken:
        lunar.streamed()
    assert broken.value.partial.choices[0].message.content == "Hel"


@LIBRARIES
@pytest.mark.parametrize("total_timeout", [None, 60], ids=["drain", "total_timeout"])
def test_an_alarm_of_one_call_never_ends_the_next_one_on_its_connection(
    total_timeout, library, fault_server, monkeypatch
):
    late = threading.Event()

    class LateTimer:
        """A timer that goes off at the worst moment: when it is cancelled, and another call is on its way."""

        def __init__(self, _seconds, function):
            self._function = function

        def start(self):
            pass

        def cancel(self):
            with contextlib.suppress(AssertionError):
                fault_server.wait_until(lambda: len(fault_server.requests) == 2, within=0.3)
            self._function()
            late.set()

    fault_server.script(sse(*spoken("Hi")), [wait(late), reply(json=completion())])
    limits = library.Limits(max_connections=1)
    with library.Client(limits=limits) as own, ThreadPoolExecutor(1) as pool:
        client = Lunar(KEY, base_url=fault_server.origin, http_client=own, max_retries=0)
        monkeypatch.setattr(threading, "Timer", LateTimer)
        stream = client.chat.completions.create(
            **QUESTION, stream=True, total_timeout=total_timeout
        )
        next_call = pool.submit(client.chat.completions.create, **QUESTION)
        assert stream.get_final_completion().choices[0].message.content == "Hi"
        assert next_call.result(10).choices[0].message.content == "Hello!"


@LIBRARIES
def test_nor_does_closing_its_stream_while_the_end_of_it_is_still_being_read(library, fault_server):
    may_answer = threading.Event()
    whole = reply(200, body_of(*spoken("Hi")), ["content-type: text/event-stream"])
    fault_server.script(whole, [wait(may_answer), reply(json=completion())])

    class SlowToReturn(library.AsyncByteStream):
        """A body that gives its connection away before it says that it is closed."""

        def __init__(self, body):
            self._body = body

        async def __aiter__(self):
            async for piece in self._body:
                yield piece

        async def aclose(self):
            await self._body.aclose()
            given_away.set()
            await asyncio.sleep(0.1)

    class Transport(library.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            answer = await super().handle_async_request(request)
            answer.stream = SlowToReturn(answer.stream)
            return answer

    async def main():
        limits = library.Limits(max_connections=1)
        async with library.AsyncClient(transport=Transport(limits=limits)) as own:
            client = AsyncLunar(KEY, base_url=fault_server.origin, http_client=own, max_retries=0)
            stream = await client.chat.completions.create(**QUESTION, stream=True)
            reading = asyncio.create_task(stream.get_final_completion())
            await given_away.wait()
            next_call = asyncio.create_task(client.chat.completions.create(**QUESTION))
            await asyncio.to_thread(
                fault_server.wait_until, lambda: len(fault_server.requests) == 2
            )
            await stream.aclose()
            may_answer.set()
            return await reading, await next_call

    given_away = asyncio.Event()
    former, following = asyncio.run(main())
    assert former.choices[0].message.content == "Hi"
    assert following.choices[0].message.content == "Hello!"


@LIBRARIES
def test_a_redirect_is_not_followed_even_if_the_callers_client_would(library, fault_server):
    fault_server.script(reply(307, b"", ["location: http://127.0.0.1:1/elsewhere"]))
    own = library.Client(follow_redirects=True)
    lunar = Lunar(KEY, base_url=fault_server.origin, http_client=own, max_retries=0)
    with own, pytest.raises(APIStatusError, match="307"):
        lunar.chat.completions.create(**QUESTION)
    assert len(fault_server.requests) == 1


@LIBRARIES
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
def test_a_transport_that_makes_its_answers_up_will_do(sync, streamed, library):
    packed = {"content-encoding": "gzip", "content-type": "text/event-stream"}
    body = (
        b"".join(map(encode, spoken("Hel", "lo")))
        if streamed
        else json.dumps(completion("Hello")).encode()
    )
    made_up = library.Response(200, content=gzipped(body), headers=packed)
    transport = library.MockTransport(lambda _request: made_up)
    if sync:
        with library.Client(transport=transport) as own:
            create = Lunar(KEY, http_client=own).chat.completions.create
            answer = create(**QUESTION, stream=streamed)
            whole = answer.get_final_completion() if streamed else answer
    else:

        async def ask():
            async with library.AsyncClient(transport=transport) as own:
                create = AsyncLunar(KEY, http_client=own).chat.completions.create
                answer = await create(**QUESTION, stream=streamed)
                return await answer.get_final_completion() if streamed else answer

        whole = asyncio.run(ask())
    assert whole.choices[0].message.content == "Hello"


@LIBRARIES
def test_so_will_a_hook_that_reads_answers(library, through, fault_server):
    lunar = through(library, fault_server)
    lunar.hook(
        "response", lambda answer: (answer.aread if isinstance(lunar, Async) else answer.read)()
    )
    fault_server.script(reply(json=completion("Hello")), sse(*spoken("Hello")))
    assert lunar.plain().choices[0].message.content == "Hello"
    assert "".join(lunar.streamed()) == "Hello"


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
def test_what_stands_in_for_httpx_is_asked_instead_of_the_network(streamed, monkeypatch):
    """As pytest-httpx and respx do it."""
    seen = []

    def stand_in(_transport, request):
        seen.append(request.url.path)
        return httpx.Response(200, json=completion("Hello"))

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", stand_in)
    with Lunar(KEY, base_url="https://lunar.test") as client:
        answer = client.chat.completions.create(**QUESTION, stream=streamed)
        whole = answer.get_final_completion() if streamed else answer
    assert whole.choices[0].message.content == "Hello"
    assert seen == ["/v1/chat/completions"]
