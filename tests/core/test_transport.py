"""Transport and AsyncTransport: what may be under any httpx client, and what httpx and httpcore have to be for that."""

import asyncio
import copy
import gc
import inspect
import pickle
import socket
import ssl
import threading
import time
from importlib.metadata import version

import httpcore
import httpx
import pytest
import trustme

import lunar_core
from lunar_core import (
    APIConnectionError,
    APITimeoutError,
    AsyncLunar,
    AsyncTransport,
    ConfigurationError,
    Lunar,
    Transport,
)
from lunar_core.client import addresses
from tests.core.conftest import AsyncSide
from tests.faults import FaultServer, nobody_accepts
from tests.faults_steps import chunk, close, completion, hang, head, reply, spoken, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}

TRANSPORTS = pytest.mark.parametrize("kind", [Transport, AsyncTransport])


def test_httpx_and_httpcore_are_what_the_transport_was_seen_to_work_with():
    """Seen with httpx 0.27.2 and 0.28.1 and httpcore 1.0.9. The one private name is `_pool`."""
    assert version("httpx").startswith(("0.27.", "0.28."))
    assert version("httpcore").startswith("1.0.")
    for transport, method, pool in (
        (httpx.HTTPTransport, "handle_request", httpcore.ConnectionPool),
        (httpx.AsyncHTTPTransport, "handle_async_request", httpcore.AsyncConnectionPool),
    ):
        assert "self._pool.handle_" in inspect.getsource(getattr(transport, method))
        assign = inspect.getsource(pool._assign_requests_to_connections)
        assert "self.create_connection(origin)" in assign


@TRANSPORTS
def test_what_tools_patch_is_inherited(kind):
    pools = {Transport: httpcore.ConnectionPool, AsyncTransport: httpcore.AsyncConnectionPool}
    for name in ("handle_request", "handle_async_request"):
        assert name not in vars(kind)
    pool = kind._pool.fget.__annotations__["return"]
    ours = getattr(lunar_core.client.transport, pool)
    assert issubclass(ours, pools[kind])
    assert not {"handle_request", "handle_async_request"} & set(vars(ours))


@TRANSPORTS
@pytest.mark.parametrize(
    "option",
    [
        {"verify": False},
        {"verify": "/etc/ssl/cert.pem"},
        {"cert": "/client.pem"},
        {"http1": False},
        {"http2": True},
        {"retries": 3},
        {"trust_env": False},
        {"colour": "blue"},
        {"proxy": "ftp://127.0.0.1"},
        {"proxy": "http://[::1"},
        {"proxy": "http://"},
        {"proxy": 8080},
        {"uds": "/run/lunar", "proxy": "http://127.0.0.1"},
        {"uds": ""},
        {"uds": 5},
        {"local_address": "127.0.0.1", "uds": "/run/lunar"},
        {"local_address": ""},
        {"local_address": 5},
        {"limits": 5},
        {"socket_options": 5},
        {"socket_options": "x"},
        {"socket_options": [(socket.SOL_SOCKET, socket.SO_RCVBUF)]},
    ],
    ids=repr,
)
def test_what_does_not_apply_is_refused_by_name(option, kind):
    with pytest.raises(ConfigurationError, match=rf"^{next(iter(option))}: "):
        kind(**option)


@TRANSPORTS
@pytest.mark.parametrize(
    "limit",
    [
        {"max_connections": 0},
        {"max_connections": "ten"},
        {"max_keepalive_connections": -1},
        {"keepalive_expiry": -1},
        {"keepalive_expiry": float("nan")},
        {"keepalive_expiry": "5"},
    ],
    ids=repr,
)
def test_a_limit_that_can_be_none_is_refused_by_name(limit, kind):
    with pytest.raises(ConfigurationError, match=rf"^limits\.{next(iter(limit))}: expected "):
        kind(limits=httpx.Limits(**limit))


COPIES = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),  # its own
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
SETTINGS = {
    "limits": httpx.Limits(max_connections=3),
    "proxy": httpx.Proxy("http://127.0.0.1:9", auth=("walter", "secret"), headers={"x": "y"}),
    "local_address": "127.0.0.1",
    "socket_options": [(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)],
}


@TRANSPORTS
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_the_options(copied, kind):
    one = kind(**SETTINGS)
    other = copied(one)
    for name in ("max_connections", "local_address", "socket_options"):
        assert getattr(other._options, name) == getattr(one._options, name)
    ours, theirs = one._options.proxy, other._options.proxy
    assert (theirs.url, theirs.auth, theirs.headers) == (ours.url, ours.auth, ours.headers)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_has_connections_of_its_own(copied, connect, fault_server):
    fault_server.always(reply(json=completion("copied")))
    kind = Transport if connect.kind is Lunar else AsyncTransport
    used = kind()
    assert ask(connect(fault_server, http_client=connect.httpx_client(transport=used))) == "copied"
    again = connect.httpx_client(transport=copied(used))
    for _ in range(2):
        assert ask(connect(fault_server, http_client=again)) == "copied"
    assert fault_server.total == 2


@TRANSPORTS
@pytest.mark.parametrize("of_the_proxy", [False, True])
def test_a_tls_context_is_shared_with_copies_and_in_no_pickle(of_the_proxy, kind):
    context = ssl.create_default_context()
    proxy = httpx.Proxy("https://127.0.0.1:9", ssl_context=context)
    one = kind(proxy=proxy) if of_the_proxy else kind(context)
    for copied in (copy.copy, copy.deepcopy):
        options = copied(one)._options
        assert context in (options.verify, getattr(options.proxy, "ssl_context", None))
    with pytest.raises(TypeError, match=r"ssl\.SSLContext .*cannot be pickled.*SSL_CERT_FILE"):
        pickle.dumps(one)


def ask(client, **params):
    return client.chat.completions.create(**QUESTION | params).choices[0].message.content


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def test_a_certificate_of_ones_own_is_shown_to_the_service(authority):
    asks_for_one = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(asks_for_one)
    authority.configure_trust(asks_for_one)
    asks_for_one.verify_mode = ssl.CERT_REQUIRED
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    with FaultServer(tls=asks_for_one) as server:
        server.always(reply(json=completion("known")))
        with httpx.Client(transport=Transport(ours)) as own, pytest.raises(APIConnectionError):
            ask(Lunar("pk", base_url=server.origin, http_client=own, max_retries=0))
        authority.issue_cert("client@lunar.test").configure_cert(ours)
        with httpx.Client(transport=Transport(ours)) as own:
            assert ask(Lunar("pk", base_url=server.origin, http_client=own)) == "known"


def test_a_certificate_may_have_to_show_another_name_than_the_urls(authority):
    named = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("lunar.test").configure_cert(named)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    extensions = {"sni_hostname": "lunar.test"}

    async def get(url):
        async with httpx.AsyncClient(transport=AsyncTransport(ours)) as own:
            return await own.get(url, extensions=extensions)

    with FaultServer(tls=named) as server, httpx.Client(transport=Transport(ours)) as own:
        server.always(reply(200, "hello"))
        with pytest.raises(httpx.ConnectError):
            own.get(server.origin)
        assert own.get(server.origin, extensions=extensions).text == "hello"
        assert asyncio.run(get(server.origin)).text == "hello"


@pytest.fixture
def unix_server(tmp_path):
    """A service behind a Unix socket; its path."""
    path = str(tmp_path / "lunar.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve():
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(reply(json=completion("through a file")))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        thread.join(5)


def test_a_unix_socket_is_spoken_to(unix_server):
    with httpx.Client(transport=Transport(uds=unix_server)) as own:
        assert ask(Lunar("pk", base_url="http://localhost", http_client=own)) == "through a file"

    async def main():
        async with httpx.AsyncClient(transport=AsyncTransport(uds=unix_server)) as own:
            client = AsyncLunar("pk", base_url="http://localhost", http_client=own)
            return (await client.chat.completions.create(**QUESTION)).choices[0].message.content

    assert asyncio.run(main()) == "through a file"


def test_connections_leave_from_the_address_that_they_are_told(fault_server):
    fault_server.always(reply(json=completion()))
    with httpx.Client(transport=Transport(local_address="127.0.0.7")) as own:
        ask(Lunar("pk", base_url=fault_server.origin, http_client=own))
        stream = own.send(own.build_request("GET", fault_server.origin), stream=True)
        assert stream.extensions["network_stream"].get_extra_info("client_addr")[0] == "127.0.0.7"
        stream.close()


def test_socket_options_are_set(fault_server):
    fault_server.always(reply(json=completion()))
    option = (socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    with httpx.Client(transport=Transport(socket_options=[option])) as own:
        answer = own.send(own.build_request("GET", fault_server.origin), stream=True)
        sock = answer.extensions["network_stream"].get_extra_info("socket")
        assert sock.getsockopt(*option[:2]) == 2 * option[2]  # Linux doubles it
        answer.close()


def test_it_carries_any_other_request_of_an_httpx_client_too(fault_server):
    def echo(request):
        return reply(200, request.body, [f"x-method: {request.method}"])

    fault_server.decide(echo)
    with httpx.Client(transport=Transport()) as own:
        assert (
            own.post(fault_server.origin, content=iter([b"in ", b"pieces"])).content == b"in pieces"
        )
        assert own.get(fault_server.origin).headers["x-method"] == "GET"
        fault_server.decide(lambda _request: head(200, ["content-length: 5"]))
        assert own.head(fault_server.origin).headers["content-length"] == "5"
        assert own.head(fault_server.origin).status_code == 200
    assert fault_server.total == 1


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # asyncio's, of loops that are closed so
def test_loops_that_are_closed_without_asyncio_run_leave_no_more_than_one_connection_open(
    fault_server,
):
    fault_server.always(reply(json=completion()))
    client = AsyncLunar("pk_live_4e0b7a2c91d8", base_url=fault_server.origin)
    for _ in range(10):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.chat.completions.create(**QUESTION))
        loop.close()
    fault_server.wait_until(lambda: fault_server.open == 1)
    assert fault_server.total == 10
    asyncio.run(client.aclose())
    del client, loop
    gc.collect()


def test_a_response_that_is_dropped_frees_its_connection(fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(transport=Transport(limits=limits), timeout=5) as own:
        for _ in range(2):
            own.send(own.build_request("GET", fault_server.origin), stream=True)
            gc.collect()  # httpx's response and its stream refer to each other


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (hang, httpx.ReadTimeout),
        ([head(200, ["content-length: 9"]), b"half"], httpx.RemoteProtocolError),
        (b"SSH-2.0\r\n\r\n", httpx.RemoteProtocolError),
    ],
    ids=["silence", "half an answer", "no HTTP"],
)
def test_its_errors_are_those_of_httpx(answer, error, fault_server):
    steps = answer if isinstance(answer, list) else [answer]
    fault_server.script([*steps, close])
    with httpx.Client(transport=Transport(), timeout=0.3) as own, pytest.raises(error):
        own.get(fault_server.origin)


def test_limits_are_httpxs(fault_server):
    fault_server.always(sse(chunk("Hel"), hang))
    limits = httpx.Limits(max_connections=1)
    with httpx.Client(
        transport=Transport(limits=limits), timeout=httpx.Timeout(5, pool=0.1)
    ) as own:
        stream = own.send(own.build_request("GET", fault_server.origin), stream=True)
        with pytest.raises(httpx.PoolTimeout):
            own.get(fault_server.origin)
        stream.close()


def test_connections_beyond_those_that_are_kept_are_closed(fault_server):
    fault_server.always(reply(json=completion()))
    limits = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(transport=Transport(limits=limits)) as own:
        for _ in range(3):
            own.get(fault_server.origin)
    assert fault_server.total == 3


def test_a_connection_that_was_idle_for_longer_than_it_may_is_not_used_again(fault_server):
    fault_server.always(reply(json=completion()))
    limits = httpx.Limits(keepalive_expiry=0.1)
    with httpx.Client(transport=Transport(limits=limits)) as own:
        for pause in (0, 0, 0.2):
            time.sleep(pause)
            own.get(fault_server.origin)
    assert [request.connection for request in fault_server.requests] == [1, 1, 2]


def test_the_connection_that_came_back_last_is_used_first(connect, fault_server):
    fault_server.script(*[sse(*spoken("Hel", "lo"))] * 3, reply(json=completion()))
    client = connect(fault_server)
    streams = [client.chat.completions.create(**QUESTION, stream=True) for _ in range(3)]
    for number in (0, 2, 1):
        streams[number].get_final_completion()
    client.chat.completions.create(**QUESTION)
    assert [request.connection for request in fault_server.requests] == [1, 2, 3, 2]


def test_waiting_for_a_connection_and_making_one_share_the_total_timeout(connect, fault_server):
    kind = AsyncTransport if isinstance(connect, AsyncSide) else Transport
    transport = kind(limits=httpx.Limits(max_connections=1))
    fault_server.always(sse(chunk("Hel"), hang))
    with nobody_accepts() as origin:
        shared = connect.httpx_client(transport=transport)
        holds = connect(fault_server, http_client=shared)
        waits = connect(origin, http_client=shared, total_timeout=0.8)
        stream = holds.chat.completions.create(**QUESTION, stream=True)
        held = connect.bare(stream)
        started = time.monotonic()
        if kind is Transport:
            threading.Timer(0.5, held.close).start()
        else:
            connect.loop.call_later(0.5, lambda: connect.loop.create_task(held.aclose()))
        with pytest.raises(APITimeoutError):
            waits.chat.completions.create(**QUESTION)
        assert 0.7 < time.monotonic() - started < 1.1


# Addresses


@pytest.fixture
def dead_first(fault_server, monkeypatch):
    """A name whose first address never answers; how often that one was tried."""
    tried = []
    with nobody_accepts() as origin:
        dead = int(origin.rpartition(":")[2])
        found = [
            address
            for port in (dead, fault_server.port)
            for address in socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        monkeypatch.setattr(addresses, "HEAD_START", 0.1)
        monkeypatch.setattr(addresses, "_dead", {})
        open_one = addresses._socket
        monkeypatch.setattr(
            addresses,
            "_socket",
            lambda at, address: tried.append(address[4][1]) or open_one(at, address),
        )
        yield lambda: tried.count(dead)


def test_an_address_that_is_dead_costs_its_share_once(connect, way, fault_server, dead_first):
    fault_server.always(way.answer())
    for _client in range(3):
        way.ask(connect(fault_server))
    assert dead_first() == 1


def test_and_is_tried_first_again_after_some_minutes(
    connect, way, fault_server, dead_first, monkeypatch
):
    fault_server.always(way.answer())
    way.ask(connect(fault_server))
    for place in addresses._dead:
        addresses._dead[place] -= addresses.DEAD_SECONDS
    way.ask(connect(fault_server))
    assert dead_first() == 2


def test_the_living_keep_the_order_in_which_the_name_gives_them(monkeypatch):
    monkeypatch.setattr(addresses, "_dead", {("b", 1): time.monotonic() + 60})
    found = [(2, 1, 6, "", (host, 1)) for host in "cbad"]
    assert [address[4][0] for address in addresses.dead_last(found)] == list("cadb")


def test_a_name_that_is_slow_to_find_is_waited_for_no_longer_than_the_timeout(
    connect, way, monkeypatch
):
    asked = socket.getaddrinfo

    def slowly(host, port, *args, **options):
        if options.get("flags"):
            return asked(host, port, **options)
        time.sleep(2)
        return asked("127.0.0.1", port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    started = time.monotonic()
    with pytest.raises(lunar_core.APITimeoutError):
        way.ask(connect("http://lunar.test", allow_http=True), total_timeout=0.2)
    assert time.monotonic() - started < 1.5
