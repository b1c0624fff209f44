"""The roads that every promise is kept on, by the sync and by the async client.

A test that asks for `connect` runs on each of them. What one does not promise is in EXCEPTIONS, and in docs/limits.md,
which readers see.
"""

import ssl
from typing import NamedTuple

import httpx
import httpx2
import pytest
import trustme
import wrapt

from lunar_core.client.tls import tls_context
from tests.connect_proxy import ConnectProxy
from tests.core.conftest import SIDES
from tests.faults import FaultServer

NAME = "lunar.test"


class Left(NamedTuple):
    """Left out: these tests, on these roads; of their cases those alone whose ids have the parts `only`."""

    reason: str
    roads: set[str]
    tests: set[str]
    only: frozenset[str] = frozenset()


INJECTED = {"httpx", "httpx2"}
EXCEPTIONS = [
    Left(
        "an injected client has its own connections",
        INJECTED,
        {
            "test_25_a_connection_is_kept_for_half_a_minute",
            "test_25_those_that_are_not_needed_any_more_are_closed_meanwhile",
            "test_25_what_a_server_says_unasked_is_not_taken_for_the_next_answer",
        },
    ),
    Left(
        "an injected client has its own closing",
        INJECTED,
        {
            "test_27_closing_a_client_leaves_no_connection_file_or_thread",
            "test_27_closing_a_client_ends_its_open_streams",
            "test_27_a_closed_client_says_so",
        },
    ),
    Left("an injected client has its own cookies", INJECTED, {"test_21_no_cookie_is_kept"}),
    Left(
        "an injected client has its own proxies",
        INJECTED,
        {
            "test_21_nor_is_one_of_a_proxys",
            "test_21_a_proxy_that_cannot_be_used_is_named_and_tried_once",
            "test_21_and_so_is_its_list_of_exceptions",
            "test_21_no_proxy_is_asked_for_what_stays_on_this_machine",
        },
    ),
    Left(
        "an injected client has its own TLS",
        INJECTED,
        {"test_21_an_authority_that_cannot_be_read_is_named_and_asked_for_once"},
    ),
    Left(
        "on a foreign transport, total_timeout does not bound a step of a sync call before the head",
        INJECTED,
        {"test_9_nor_does_it_for_each_of_many_addresses"},
        frozenset({"sync"}),
    ),
    Left(
        "on a foreign transport, total_timeout does not bound a step of a sync call before the head",
        INJECTED,
        {"test_10_an_answer_that_drips_is_ended_by_the_total_timeout"},
        frozenset({"sync", "a head"}),
    ),
    Left(  # these run on no road: each makes clients of its own, with our transport
        "a foreign transport must handle forks and further event loops itself",
        INJECTED,
        {
            "test_26_a_forked_child_never_uses_its_parents_connections",
            "test_26_event_loops_one_after_another_share_a_client_without_a_lost_attempt",
            "test_26_a_loop_that_ends_in_mid_stream_leaves_the_next_one_unharmed",
        },
    ),
    Left(
        "none of the product's: these bring an environment, or addresses, that are not those of the road",
        {"proxied"},
        {
            "test_21_nor_is_one_of_a_proxys",
            "test_21_the_proxy_of_the_environment_is_used",
            "test_21_a_proxy_that_cannot_be_used_is_named_and_tried_once",
            "test_21_and_so_is_its_list_of_exceptions",
            "test_21_an_https_proxy_never_sees_the_key_or_the_prompt",
            "test_21_an_authority_that_the_environment_names_is_trusted",
            "test_9_so_does_the_handshake_of_tls",
            "test_9_an_address_that_does_not_answer_leaves_time_for_one_that_does",
            "test_9_an_address_of_a_kind_that_this_machine_does_not_know_is_passed_over",
        },
    ),
]


def pytest_collection_modifyitems(config, items):
    left_out = {item for item in items if any(is_left_out(item, entry) for entry in EXCEPTIONS)}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))


def is_left_out(item, entry):
    case = getattr(item, "callspec", None)
    if case is None or case.params.get("road") not in entry.roads:
        return False
    return item.originalname in entry.tests and entry.only <= set(case.id.split("-"))


class Ours:
    """The client's own transport, by itself."""

    def __init__(self, _request):
        self.must_see = False
        self.running = None

    def server(self):
        self.running = FaultServer()
        return self.running

    def options(self, _side, server, options):
        if "http_client" in options:
            self.must_see = False  # the wrappers are around httpx's transport, and no other
        return {"base_url": getattr(server, "origin", server)} | options


class Injected(Ours):
    """A client of the caller's own, with its library's own transport."""

    library = httpx

    def options(self, side, server, options):
        if "http_client" not in options:
            limits = self.library.Limits(max_connections=options.pop("max_connections", 1000))
            options["http_client"] = side.httpx_client(
                self.library,
                limits=limits,
                verify=tls_context(),  # as theirs would be, but not made anew for each test
            )
        return super().options(side, server, options)


class Injected2(Injected):
    library = httpx2


class Proxied(Ours):
    """Through a proxy that wants credentials, by CONNECT, to a service that speaks TLS."""

    def __init__(self, request):
        super().__init__(request)
        tls = request.getfixturevalue("tls")
        patch = request.getfixturevalue("monkeypatch")
        proxy = request.getfixturevalue("connect_proxy")
        patch.setenv("https_proxy", proxy.url)
        patch.setenv("SSL_CERT_FILE", tls[1])
        self._context = tls[0]

    def server(self):
        self.running = FaultServer(tls=self._context)
        return self.running

    def options(self, side, server, options):
        if isinstance(server, FaultServer):
            server = f"https://{NAME}:{server.port}"
        return super().options(side, server, options)


class Instrumented(Ours):
    """With wrapt's wrappers around what OpenTelemetry puts them around."""

    def __init__(self, request):
        super().__init__(request)
        self.must_see = True
        self.requests_seen = []

        def seen(wrapped, _instance, args, kwargs):
            self.requests_seen.append(args)
            return wrapped(*args, **kwargs)

        for kind, method in (
            (httpx.HTTPTransport, "handle_request"),
            (httpx.AsyncHTTPTransport, "handle_async_request"),
        ):
            original = vars(kind)[method]
            wrapt.wrap_function_wrapper(kind, method, seen)
            request.addfinalizer(lambda at=(kind, method, original): setattr(*at))


ROADS = {
    "ours": Ours,
    "httpx": Injected,
    "httpx2": Injected2,
    "proxied": Proxied,
    "instrumented": Instrumented,
}


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """A server's TLS context for NAME, and the file with the authority that it is trusted by."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    path = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return context, str(path)


@pytest.fixture
def connect_proxy():
    with ConnectProxy() as proxy:
        yield proxy


@pytest.fixture(params=ROADS)
def road(request):
    return ROADS[request.param](request)


@pytest.fixture
def fault_server(request):
    kept = request.getfixturevalue("road") if "road" in request.fixturenames else Ours(request)
    with kept.server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def connect(request, road):
    side = SIDES[request.param](road.options)
    yield side
    side.close()
    if road.must_see and road.running is not None:
        assert len(road.requests_seen) >= len(road.running.requests)
