"""Promises 17, 18 and 21: key and prompts go to the service, over TLS, and nowhere else."""

import asyncio
import logging
import socket
import ssl

import pytest
import trustme

from lunar_core import (
    APIConnectionError,
    APIStatusError,
    AsyncLunar,
    ConfigurationError,
    Lunar,
    LunarError,
)
from lunar_core.client.own_clients import OwnAsyncClient, OwnClient
from lunar_core.settings import Settings
from tests.faults import FaultServer
from tests.faults_steps import close, completion, head, reply, reset

SECRET_PROMPT = [{"role": "user", "content": "the patient's name is Rumpelstiltskin"}]


@pytest.fixture(params=[Lunar, AsyncLunar])
def kind(request):
    return request.param


@pytest.fixture
def elsewhere():
    """A second origin, which nobody was told to talk to."""
    with FaultServer() as server:
        server.always(reply(json=completion("from elsewhere")))
        yield server


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.com",
        "HTTP://api.example.com",
        "http://10.0.0.1:8000",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.0:8000",
        "http://[::2]",
    ],
)
def test_17_plain_http_is_refused_beyond_loopback(base_url, kind, monkeypatch):
    with pytest.raises(ConfigurationError, match="base_url"):
        kind(api_key="pk", base_url=base_url)
    monkeypatch.setenv("LUNAR_BASE_URL", base_url)
    with pytest.raises(ConfigurationError, match="base_url"):
        kind(api_key="pk")
    kind(api_key="pk", base_url=base_url, allow_http=True)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example.com",
        "http://127.0.0.1:1",
        "http://localhost",
        "http://[::1]:8000/x/v1/",
    ],
)
def test_17_https_and_loopback_are_taken(base_url, kind):
    kind(api_key="pk", base_url=base_url)


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example.com",
        "ftp://api.example.com",
        "file:///etc/passwd",
        "https://",
        "https://user:hunter2@example.com",
        "https://example.com?key=1",
        "https://exa mple.com",
        "https://example.com/\r\nx-evil: 1",
        "https://example.com:port",
    ],
)
def test_17_what_is_no_base_url_is_refused_at_construction(base_url, kind):
    with pytest.raises(ConfigurationError, match="base_url") as caught:
        kind(api_key="pk", base_url=base_url, allow_http=True)
    assert "hunter2" not in str(caught.value)


def test_18_an_api_key_is_in_its_header_and_nowhere_else(connect, way, key, fault_server):
    fault_server.script(way.answer())
    way.ask(connect(fault_server))
    [request] = fault_server.requests
    assert request.header("x-api-key") == key
    assert [name.lower() for name, value in request.headers if key in value] == ["x-api-key"]
    assert request.header("authorization") is None
    assert key not in request.path
    assert key.encode() not in request.body


def test_18_a_jwt_is_in_its_header_and_nowhere_else(connect, way, fault_server):
    fault_server.script(way.answer())
    way.ask(connect(fault_server, api_key=None, jwt="eyJ.abc.def"))
    [request] = fault_server.requests
    assert request.header("authorization") == "Bearer eyJ.abc.def"
    assert request.header("x-api-key") is None
    assert b"eyJ" not in request.body


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_18_a_redirect_to_another_origin_gets_neither_key_nor_prompt(
    status, connect, way, fault_server, elsewhere
):
    fault_server.always(reply(status, headers=[f"location: {elsewhere.origin}/v1/router"]))
    with pytest.raises(APIStatusError) as caught:
        way.ask(connect(fault_server, max_retries=2))
    assert caught.value.status_code == status
    assert len(fault_server.requests) == 1
    assert elsewhere.total == 0


def test_18_nor_does_a_redirect_within_the_origin_send_the_prompt_again(connect, way, fault_server):
    fault_server.always(reply(307, headers=["location: /v1/chat/completions/"]))
    with pytest.raises(APIStatusError):
        way.ask(connect(fault_server))
    assert len(fault_server.requests) == 1


@pytest.mark.parametrize("status", [302, 307])
def test_18_not_even_when_an_injected_client_would_follow(
    status, connect, way, fault_server, elsewhere
):
    injected = connect.httpx_client(follow_redirects=True)
    fault_server.always(reply(status, headers=[f"location: {elsewhere.origin}/x"]))
    with pytest.raises(APIStatusError):
        way.ask(connect(fault_server, http_client=injected))
    assert elsewhere.total == 0


@pytest.mark.parametrize("name", ["x-api-key", "X-API-Key", "authorization", "Host"])
def test_18_headers_that_would_carry_a_key_past_its_keeper_are_refused(
    name, connect, way, kind, fault_server
):
    with pytest.raises(ConfigurationError, match="default_headers"):
        kind(api_key="pk", default_headers={name: "v"})
    with pytest.raises(ConfigurationError, match="extra_headers"):
        way.ask(connect(fault_server), extra_headers={name: "v"})
    assert not fault_server.requests


def test_21_prompts_and_answers_are_never_logged_at_info_or_above(
    loggers, connect, way, fault_server, caplog, waits
):
    caplog.set_level(logging.DEBUG)
    secret = "Rumpelstiltskin"
    fault_server.script(
        reply(503), way.answer(f"It is {secret}."), reply(200, secret), reply(400, secret), reset
    )
    injected = connect.httpx_client() if "httpcore" in loggers else None
    client = connect(fault_server, max_retries=1, http_client=injected)
    way.ask(client, messages=SECRET_PROMPT)
    for _fault in range(3):
        with pytest.raises(LunarError):
            way.ask(client, messages=SECRET_PROMPT, max_retries=0)
    assert {record.name.partition(".")[0] for record in caplog.records} - {"asyncio"} == loggers
    loud = [record for record in caplog.records if record.levelno >= logging.INFO]
    assert not [record for record in loud if secret in repr(vars(record))]


def test_21_no_cookie_is_kept(connect, way, fault_server):
    fault_server.always(way.answer())
    fault_server.script(reply(500, headers=["set-cookie: session=1; Path=/"]))
    fault_server.script([reply(401, headers=["set-cookie: session=2; Path=/"])])
    client = connect(fault_server)
    for _call in range(2):
        with pytest.raises(APIStatusError):
            way.ask(client)
    way.ask(client)
    assert [request.header("cookie") for request in fault_server.requests] == [None] * 3


def test_21_nor_does_the_client_below_have_a_jar_that_would_take_one(fault_server, key):
    """Whatever asks through it: a request that it builds itself would carry what its jar holds."""
    fault_server.always(reply(200, headers=["set-cookie: session=1; Path=/"]))
    settings = Settings.resolve(api_key=key, base_url=fault_server.origin)
    with OwnClient(settings) as own:
        own.get(fault_server.origin)
        own.get(fault_server.origin)

    async def ask_twice():
        async with OwnAsyncClient(settings) as own:
            await own.get(fault_server.origin)
            await own.get(fault_server.origin)

    asyncio.run(ask_twice())
    assert [request.header("cookie") for request in fault_server.requests] == [None] * 4


def test_21_nor_is_one_of_a_proxys(connect, way, fault_server, monkeypatch):
    monkeypatch.setenv("http_proxy", fault_server.origin)
    fault_server.script([reply(401, headers=["set-cookie: session=2; Path=/"])], way.answer())
    client = connect("http://lunar.test", allow_http=True)
    with pytest.raises(APIStatusError):
        way.ask(client)
    way.ask(client)
    assert [request.header("cookie") for request in fault_server.requests] == [None] * 2


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_21_the_proxy_of_the_environment_is_used(variable, connect, way, fault_server, monkeypatch):
    if variable == "HTTP_PROXY":
        monkeypatch.setenv("http_proxy", fault_server.origin)  # CGI makes the other spelling unsafe
    monkeypatch.setenv(variable, fault_server.origin)
    fault_server.script(way.answer("by proxy"))
    answer = way.ask(connect("http://lunar.test/x", allow_http=True))
    assert answer.choices[0].message.content == "by proxy"
    assert fault_server.requests[0].path == "http://lunar.test/x/v1/chat/completions"


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "socks4://127.0.0.1:1", "http://[::1"])
def test_21_a_proxy_that_cannot_be_used_is_named_and_tried_once(proxy, connect, way, monkeypatch):
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(ConfigurationError, match=r"proxy.*environment") as caught:
        way.ask(connect("https://lunar.test", max_retries=2))
    assert len(caught.value.attempts) == 1


def test_21_and_so_is_its_list_of_exceptions(connect, way, fault_server, elsewhere, monkeypatch):
    monkeypatch.setenv("http_proxy", elsewhere.origin)
    monkeypatch.setenv("no_proxy", "lunar.test")
    found = socket.getaddrinfo("127.0.0.1", fault_server.port, type=socket.SOCK_STREAM)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
    fault_server.script(way.answer())
    way.ask(connect("http://lunar.test", allow_http=True))
    assert (len(fault_server.requests), elsewhere.total) == (1, 0)


def test_21_no_proxy_is_asked_for_what_stays_on_this_machine(
    connect, way, fault_server, elsewhere, monkeypatch
):
    monkeypatch.setenv("http_proxy", elsewhere.origin)
    fault_server.script(way.answer())
    way.ask(connect(fault_server))
    assert (len(fault_server.requests), elsewhere.total) == (1, 0)


def test_21_an_https_proxy_never_sees_the_key_or_the_prompt(
    connect, way, key, fault_server, monkeypatch
):
    monkeypatch.setenv("https_proxy", fault_server.origin)
    fault_server.always([head(502), close])
    with pytest.raises(APIConnectionError):
        way.ask(connect("https://lunar.test"), messages=SECRET_PROMPT)
    [request] = fault_server.requests
    assert (request.method, request.path) == ("CONNECT", "lunar.test:443")
    assert not [value for _name, value in request.headers if key in value]


CONNECT = """
    import json, sys
    peers = set()

    def note(event, args):
        if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            peers.add(f"{event} {args[-1] if event == 'socket.connect' else args}")

    sys.addaudithook(note)
    import asyncio, lunar_core

    told = dict(api_key="pk", base_url=sys.argv[1])
    asked = dict(model="m", messages=[dict(role="user", content="x")])
    with lunar_core.Lunar(**told) as client:
        client.chat.completions.create(**asked)

    async def main():
        async with lunar_core.AsyncLunar(**told) as client:
            await client.chat.completions.create(**asked)

    asyncio.run(main())
    print(json.dumps(sorted(peers)))
"""


def test_21_nothing_is_connected_to_but_the_base_url(fault_server, run_apart):
    fault_server.always(reply(json=completion()))
    peers = run_apart(CONNECT, fault_server.origin)
    assert f"socket.connect ('127.0.0.1', {fault_server.port})" in peers
    assert [peer for peer in peers if f"127.0.0.1', {fault_server.port}" not in peer] == []


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def speaking_tls(authority, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return FaultServer(tls=context)


def test_21_a_certificate_of_an_unknown_authority_is_refused_once_and_for_all(
    connect, way, authority
):
    with speaking_tls(authority, "127.0.0.1") as server:
        with pytest.raises(APIConnectionError, match=r"(?i)certificate") as caught:
            way.ask(connect(server, max_retries=3))
        assert len(caught.value.attempts) == 1
        assert not server.requests


def test_21_a_certificate_for_another_name_is_refused(connect, way, authority, monkeypatch):
    with authority.cert_pem.tempfile() as path, speaking_tls(authority, "example.com") as server:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        with pytest.raises(APIConnectionError, match=r"(?i)certificate|mismatch"):
            way.ask(connect(server, max_retries=3))
        assert not server.requests


def test_21_an_authority_that_the_environment_names_is_trusted(
    connect, way, authority, monkeypatch
):
    with authority.cert_pem.tempfile() as path, speaking_tls(authority, "127.0.0.1") as server:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        server.script(way.answer("safely"))
        assert way.ask(connect(server)).choices[0].message.content == "safely"


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["missing", "garbage"])
def test_21_an_authority_that_cannot_be_read_is_named_and_asked_for_once(
    content, connect, way, fault_server, tmp_path, monkeypatch
):
    path = tmp_path / "authority.pem"
    if content:
        path.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    origin = fault_server.origin.replace("http:", "https:")
    with pytest.raises(ConfigurationError, match=r"SSL_CERT_FILE=.*authority\.pem") as caught:
        way.ask(connect(origin, max_retries=2))
    assert len(caught.value.attempts) == 1
    assert fault_server.total == 0
