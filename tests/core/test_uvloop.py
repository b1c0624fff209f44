"""The async client on uvloop, whose event loop lacks some of what asyncio's own has."""

import ssl

import pytest
import trustme

from lunar_core import APIConnectionError, APIStreamError, APITimeoutError
from tests.faults import FaultServer, nobody_accepts, nobody_listens
from tests.faults_steps import chunk, hang, reset, sse

pytestmark = pytest.mark.parametrize("connect", ["uvloop"], indirect=True)

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_calls_are_answered_on_one_connection(host, connect, way, fault_server):
    fault_server.script(way.answer("Hello"), way.answer("again"))
    client = connect(f"http://{host}:{fault_server.port}")
    assert way.ask(client).choices[0].message.content == "Hello"
    assert way.ask(client).choices[0].message.content == "again"
    assert fault_server.total == 1


def test_so_are_prompts_larger_than_what_a_socket_takes(connect, way, fault_server):
    prompt = [{"role": "user", "content": "x" * (5 << 20)}]
    fault_server.script(way.answer("Hello"))
    assert way.ask(connect(fault_server), messages=prompt).choices[0].message.content == "Hello"
    assert fault_server.bodies[0]["messages"] == prompt


def test_so_are_those_through_tls(connect, way, monkeypatch):
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with authority.cert_pem.tempfile() as path, FaultServer(tls=context) as server:
        monkeypatch.setenv("SSL_CERT_FILE", path)
        server.script(way.answer("safely"))
        assert way.ask(connect(server)).choices[0].message.content == "safely"


def test_a_stream_that_is_left_frees_its_connection(connect, fault_server):
    fault_server.script(sse(chunk("Hel"), hang))
    for _chunk in connect(fault_server).chat.completions.create(**QUESTION, stream=True):
        break
    connect.wait_until(lambda: not fault_server.open)


def test_a_stream_that_breaks_keeps_what_it_had_said(connect, fault_server):
    fault_server.script(sse(chunk("Hel"), reset))
    with pytest.raises(APIStreamError) as broken:
        list(connect(fault_server).chat.completions.create(**QUESTION, stream=True))
    assert broken.value.partial.choices[0].message.content == "Hel"


def test_failures_have_their_classes(connect, way, fault_server):
    fault_server.script(hang)
    with pytest.raises(APITimeoutError):
        way.ask(connect(fault_server), timeout=0.2)
    with nobody_accepts() as origin, pytest.raises(APITimeoutError):
        way.ask(connect(origin), timeout=0.2)
    with pytest.raises(APIConnectionError):
        way.ask(connect(nobody_listens()))
