"""Proxies of every kind keep the promises: they are spoken to by our own connections."""

import asyncio
import functools
import ssl
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import trustme

from lunar_core import (
    APIConnectionError,
    APITimeoutError,
    AsyncLunar,
    AsyncTransport,
    Lunar,
    LunarError,
    Transport,
)
from tests.connect_proxy import ConnectProxy
from tests.core.conftest import KEY, QUESTION
from tests.faults import FaultServer, nobody_accepts
from tests.faults_steps import close, completion, drip, hang, reply
from tests.socks_proxy import SocksProxy

NAME = "lunar.test"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def theirs(authority):
    """The TLS of services and proxies."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", NAME).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trust(authority):
    """Ours, which trusts them."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Way:
    """One kind of proxy before one kind of service."""

    def __init__(self, scheme, proxy, theirs, trust):
        self._theirs = theirs
        self.trust_of_proxies = self.trust_of_services = trust
        self._proxy, self.base_scheme = proxy, scheme

    @contextmanager
    def open(self):
        """A service, and the proxy before it: the fault server itself where the proxy forwards."""
        kind, scheme = self._proxy, self.base_scheme
        if scheme == "http" and kind in ("http", "https"):
            with FaultServer(tls=self._theirs if kind == "https" else None) as server:
                self.url, self.base_url = server.origin, f"http://{NAME}"
                yield server
        else:
            proxies = {"http": ConnectProxy, "socks5": SocksProxy}
            proxies["https"] = functools.partial(ConnectProxy, tls=self._theirs)
            with (
                FaultServer(tls=self._theirs if scheme == "https" else None) as server,
                proxies[kind]() as proxy,
            ):
                self.url, self.base_url = proxy.url, f"{scheme}://{NAME}:{server.port}"
                yield server

    def proxy(self, url=None):
        context = self.trust_of_proxies if self._proxy == "https" else None
        return httpx.Proxy(url or self.url, ssl_context=context)

    def client(self, connect, url=None, **options):
        transport = Transport if connect.kind is Lunar else AsyncTransport
        own = connect.httpx_client(
            transport=transport(self.trust_of_services, proxy=self.proxy(url))
        )
        base_url = getattr(self, "base_url", f"{self.base_scheme}://{NAME}")
        return connect(base_url, http_client=own, allow_http=True, **options)

    def silent(self, origin):
        """The URL of a proxy of this kind at an origin that says nothing."""
        return origin.replace("http", self._proxy, 1)


WAYS = [(s, p) for s in ("https", "http") for p in ("http", "https", "socks5")]


@pytest.fixture(params=WAYS, ids=[f"{scheme} by {proxy}" for scheme, proxy in WAYS])
def through(request, theirs, trust):
    return Way(*request.param, theirs, trust)


def test_calls_go_through_it_and_use_its_connection_again(through, connect, way):
    with through.open() as server:
        server.always(way.answer("inside"))
        client = through.client(connect)
        for _call in range(3):
            assert way.ask(client).choices[0].message.content == "inside"
        assert server.total == 1


def test_what_is_said_unasked_is_not_taken_for_the_next_answer(through, connect, way):
    surplus = reply(json=completion("of somebody else"))
    answer = way.answer("yours")
    whole = [*answer, lambda connection: connection.send_raw(b"0\r\n\r\n" + surplus)]
    with through.open() as server:
        server.always(answer + surplus if isinstance(answer, bytes) else whole)
        client = through.client(connect)
        for _call in range(3):
            assert way.ask(client).choices[0].message.content == "yours"


def test_nor_is_what_is_said_later(through, connect, way):
    said = threading.Event()

    def speak_later(connection):
        time.sleep(0.05)
        connection.send_raw(reply(json=completion("of somebody else")))
        said.set()

    answer = way.answer("yours")
    steps = [answer] if isinstance(answer, bytes) else answer
    end = [] if isinstance(answer, bytes) else [lambda c: c.send_raw(b"0\r\n\r\n")]

    def unframed(connection):
        connection.chunked = False

    with through.open() as server:
        server.always([*steps, *end, unframed, speak_later])
        client = through.client(connect)
        for _call in range(2):
            said.clear()
            assert way.ask(client).choices[0].message.content == "yours"
            assert said.wait(2)
            time.sleep(0.05)  # until a proxy has passed it on
        assert server.total == 2


def test_an_answer_of_megabytes_comes_whole(through, connect, way):
    text = "long " * 400_000
    with through.open() as server:
        server.always(way.answer(text))
        answer = way.ask(through.client(connect), messages=[{"role": "user", "content": text}])
        assert answer.choices[0].message.content == text
        assert server.requests[0].json["messages"][0]["content"] == text


def test_a_connection_that_was_ended_meanwhile_is_not_used_again(through, connect, way):
    with through.open() as server:
        server.always([*way.answer("one")] if way.streamed else [way.answer("one"), close])
        client = through.client(connect)
        for _call in range(2):
            assert way.ask(client).choices[0].message.content == "one"
            server.hang_up()
            time.sleep(0.05)


def test_a_service_that_is_silent_is_not_waited_for_beyond_the_calls_time(through, connect, way):
    with through.open() as server:
        server.always(hang)
        started = time.monotonic()
        with pytest.raises(APITimeoutError) as caught:
            way.ask(through.client(connect), total_timeout=0.3)
        assert time.monotonic() - started < 1.5
        assert caught.value.was_sent


@pytest.mark.parametrize(
    ("kind", "words"),
    [("http", "proxy answered 407"), ("socks5", "refused the user or the password")],
)
def test_one_that_wants_other_credentials_is_told_of(kind, words, connect, way, theirs, trust):
    through = Way("https", kind, theirs, trust)
    with through.open() as server:
        client = through.client(connect, through.url.replace("walter", "jesse"))
        with pytest.raises(APIConnectionError, match=words) as caught:
            way.ask(client)
        assert not caught.value.was_sent
        assert "p%ss" not in str(caught.value)
        assert not server.total


def test_a_proxy_whose_certificate_is_of_an_unknown_authority_is_not_spoken_to(
    connect, way, theirs, trust
):
    through = Way("https", "https", theirs, trust)
    with through.open() as server:
        through.trust_of_proxies = ssl.create_default_context()
        with pytest.raises(APIConnectionError, match=r"CERTIFICATE_VERIFY_FAILED") as caught:
            way.ask(through.client(connect))
        assert (server.total, caught.value.was_sent) == (0, False)


@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
def test_a_service_whose_certificate_is_of_an_unknown_authority_is_not_spoken_to(
    kind, connect, way, theirs, trust
):
    through = Way("https", kind, theirs, trust)
    with through.open() as server:
        through.trust_of_services = ssl.create_default_context()
        with pytest.raises(APIConnectionError, match=r"CERTIFICATE_VERIFY_FAILED") as caught:
            way.ask(through.client(connect))
        assert (server.requests, caught.value.was_sent) == ([], False)


async def test_a_call_that_is_cancelled_ends_in_whatever_step_it_is(through):
    with through.open() as server:
        server.always(reply(json=completion()))
        own = httpx.AsyncClient(
            transport=AsyncTransport(through.trust_of_services, proxy=through.proxy())
        )
        async with own:
            client = AsyncLunar(KEY, base_url=through.base_url, http_client=own, allow_http=True)
            finished = 0
            for turns in range(60):
                call = asyncio.create_task(client.chat.completions.create(**QUESTION))
                for _turn in range(turns):
                    await asyncio.sleep(0 if turns < 40 else 0.001)
                call.cancel()
                started = time.monotonic()
                await asyncio.wait([call], timeout=2)
                assert time.monotonic() - started < 0.5
                finished += not call.cancelled()
            assert finished < 60
        await asyncio.to_thread(server.wait_until, lambda: server.open == 0)


# A proxy that fails, which nobody is billed for


@pytest.fixture(params=["does not accept", "accepts and says nothing"])
def silent_origin(request, fault_server):
    if request.param == "does not accept":
        with nobody_accepts() as origin:
            yield origin
    else:
        fault_server.greet(*[hang] * 9)
        yield fault_server.origin


def needs_words(through, origin, fault_server):
    """Whether the proxy is to say something before the request goes out."""
    is_connected = origin == fault_server.origin
    return not is_connected or through.silent(origin) != origin or through.base_scheme == "https"


def test_a_silent_proxy_is_waited_for_as_long_as_the_call_may_take(
    through, connect, way, silent_origin, fault_server
):
    client = through.client(connect, through.silent(silent_origin))
    started = time.monotonic()
    with pytest.raises(APITimeoutError) as caught:
        way.ask(client, total_timeout=0.3)
    assert time.monotonic() - started < 1.5
    assert caught.value.was_sent is not needs_words(through, silent_origin, fault_server)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_headers_for_a_proxy_reach_it(scheme, connect, way, fault_server):
    """A proxy that forwards gets them with the request, one that makes a tunnel with its CONNECT."""
    fault_server.always(reply(403))
    proxy = httpx.Proxy(fault_server.origin, headers={"x-team": "search"})
    transport = Transport if connect.kind is Lunar else AsyncTransport
    own = connect.httpx_client(transport=transport(proxy=proxy))
    client = connect(f"{scheme}://{NAME}", http_client=own, allow_http=True)
    with pytest.raises(LunarError):
        way.ask(client)
    [request] = fault_server.requests
    assert request.method == ("POST" if scheme == "http" else "CONNECT")
    assert request.header("x-team") == "search"


def test_a_proxy_that_takes_its_time_leaves_the_handshake_behind_it_no_more_than_the_rest(
    connect, way, fault_server, monkeypatch
):
    monkeypatch.setenv("https_proxy", fault_server.origin)
    tunnel = drip(b"HTTP/1.1 200 OK\r\n\r\n", every=0.6 / 19)
    fault_server.script([tunnel, hang])
    client = connect(f"https://{NAME}")
    started = time.monotonic()
    with pytest.raises(APITimeoutError):
        way.ask(client, total_timeout=0.8)
    assert 0.7 < time.monotonic() - started < 1.2
    assert len(fault_server.requests) == 1


def test_close_ends_what_waits_for_a_silent_proxy(through, way, silent_origin, monkeypatch, trust):
    monkeypatch.setenv("all_proxy", through.silent(silent_origin))
    client = Lunar(KEY, base_url=f"{through.base_scheme}://{NAME}", allow_http=True, max_retries=3)
    came = []

    def call():
        try:
            came.append(way.ask(client))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is looked at
            came.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    closed = time.monotonic()
    client.close()
    thread.join(5)
    assert time.monotonic() - closed < 0.5
    assert isinstance(came[0], APIConnectionError)
    assert "this client was closed" in str(came[0])
    assert len(came[0].attempts) == 1
