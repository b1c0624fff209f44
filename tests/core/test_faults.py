"""The fault server does what its script says, seen by a bare socket."""

import socket
import ssl
import threading
import time
import zlib

import pytest
import trustme

from tests.faults import FaultServer, nobody_accepts, nobody_listens
from tests.faults_steps import (
    DONE,
    chunk,
    close,
    cut,
    deaf,
    drip,
    gzip_bomb,
    gzipped,
    hang,
    head,
    reply,
    reset,
    spoken,
    sse,
    tell,
    wait,
)

HEAD = b"POST /v1/router HTTP/1.1\r\nHost: x\r\nX-Api-Key: pk\r\nContent-Length: 13\r\n\r\n"
ASKED = HEAD + b'{"model":"m"}'


@pytest.fixture
def server():
    with FaultServer() as server:
        yield server


@pytest.fixture
def peer(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        yield peer


def everything(peer):
    return b"".join(iter(lambda: peer.recv(65_536), b""))


def test_a_request_is_recorded_to_the_byte_before_it_is_answered(server, peer):
    server.script(reply(200, json={"ok": True}), close)
    peer.sendall(HEAD + b'{"model"')
    peer.sendall(b':"m"}')
    assert peer.recv(65_536).endswith(b'\r\n\r\n{"ok": true}')
    peer.sendall(ASKED)
    assert everything(peer) == b""
    [first, second] = server.requests
    assert (first.method, first.path, first.body) == ("POST", "/v1/router", b'{"model":"m"}')
    assert (first.header("x-api-key"), first.header("cookie")) == ("pk", None)
    assert first.connection == second.connection == 1
    assert second.at > first.at
    assert server.models == ["m", "m"]


def test_past_the_end_of_the_script_comes_418_or_what_always_says(server, peer):
    peer.sendall(ASKED)
    assert b" 418 " in peer.recv(65_536)
    server.always(reply(204))
    peer.sendall(ASKED)
    assert b" 204 " in peer.recv(65_536)
    server.decide(lambda request: reply(200, request.body))
    peer.sendall(ASKED)
    assert peer.recv(65_536).endswith(b'{"model":"m"}')


def test_a_reset_is_seen_as_a_reset_and_a_close_as_an_end(server, peer):
    server.script([b"part", reset])
    peer.sendall(ASKED)
    with pytest.raises(ConnectionResetError):
        everything(peer)
    server.greet([b"garbage", close])
    with socket.create_connection(("127.0.0.1", server.port)) as other:
        assert everything(other) == b"garbage"
    server.wait_until(lambda: server.open == 0 and server.total == 2)


def test_events_of_the_test_order_what_is_sent(server, peer):
    reached, go = threading.Event(), threading.Event()
    server.script([b"one", tell(reached), wait(go), b"two", close])
    peer.sendall(ASKED)
    assert reached.wait(2)
    assert peer.recv(65_536) == b"one"
    go.set()
    assert everything(peer) == b"two"


def test_a_hanging_connection_ends_as_soon_as_its_peer_leaves(server, peer):
    server.script(hang)
    peer.sendall(ASKED)
    server.wait_until(lambda: len(server.requests) == 1)
    assert server.open == 1
    peer.close()
    server.wait_until(lambda: server.open == 0, within=0.5)
    with pytest.raises(AssertionError, match=r"1 requests, 0 of 1 connections open"):
        server.wait_until(lambda: server.open == 1, within=0.05)


def test_a_connection_may_be_greeted_before_it_asks(server):
    server.greet(reply(204))
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        assert b" 204 " in peer.recv(65_536)


def test_a_deaf_connection_takes_no_more_than_the_buffers_hold(server):
    server.greet(deaf)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as other:
        other.settimeout(0.2)  # for sending alone: a busy machine may take longer to connect
        with pytest.raises(TimeoutError):
            other.sendall(bytes(64 << 20))
        assert not server.requests


def test_closing_the_server_ends_every_step():
    with FaultServer() as server:
        server.script(hang, wait(threading.Event()), drip(b"x" * 1_000, every=1))
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for number, peer in enumerate(peers, 1):
            peer.sendall(ASKED)
            server.wait_until(lambda number=number: len(server.requests) == number)
        started = time.monotonic()
    assert time.monotonic() - started < 1
    for peer in peers:
        peer.close()


def test_a_stream_is_one_chunk_an_event_and_the_connection_stays(server, peer):
    server.script(sse(chunk("hé"), ": comment\n\n", DONE), reply(204))
    peer.sendall(ASKED)
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        answer += peer.recv(65_536)
    _, _, body = answer.partition(b"\r\n\r\n")
    sizes = [int(line, 16) for line in body.split(b"\r\n")[::2] if line]
    assert sizes == [sizes[0], len(": comment\n\n"), len(DONE), 0]
    assert '"hé"'.encode() in body
    peer.sendall(ASKED)
    assert b" 204 " in peer.recv(65_536)


def test_an_unframed_stream_ends_with_the_connection(server, peer):
    server.script(sse(*spoken("Hi"), chunked=False))
    peer.sendall(ASKED)
    assert everything(peer).endswith(DONE)


def test_bytes_can_be_cut_and_dripped(server, peer):
    assert cut(b"abcdef", 4, 1) == [b"a", b"bcd", b"ef"]
    server.script([drip(b"abc", every=0.02), close])
    peer.sendall(ASKED)
    started = time.monotonic()
    assert everything(peer) == b"abc"
    assert time.monotonic() - started >= 0.06


def test_a_bomb_is_small_until_it_is_inflated():
    bomb = gzip_bomb(64 << 20)
    assert len(bomb) < 128 << 10
    inflate = zlib.decompressobj(wbits=47)
    pieces = (bomb[at : at + 1_024] for at in range(0, len(bomb), 1_024))
    assert sum(len(inflate.decompress(piece)) for piece in pieces) == 64 << 20
    assert zlib.decompress(gzipped(b"small", wbits=-15), wbits=-15) == b"small"


def test_it_speaks_tls_and_a_failed_handshake_is_no_request():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting, doubting = ssl.create_default_context(), ssl.create_default_context()
    authority.configure_trust(trusting)
    with FaultServer(tls=context) as server:
        server.script([head(200), b"safe", close])
        raw = socket.create_connection(("127.0.0.1", server.port))
        with trusting.wrap_socket(raw, server_hostname="127.0.0.1") as peer:
            peer.sendall(ASKED)
            assert everything(peer).endswith(b"safe")
        raw = socket.create_connection(("127.0.0.1", server.port))
        with raw, pytest.raises(ssl.SSLCertVerificationError):
            doubting.wrap_socket(raw, server_hostname="127.0.0.1")
        server.wait_until(lambda: server.open == 0)
        assert (len(server.requests), server.total) == (1, 2)


def test_there_are_ports_that_refuse_and_ports_that_never_answer():
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(nobody_listens().rpartition(":")[2])))
    with nobody_accepts() as origin, pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", int(origin.rpartition(":")[2])), timeout=0.2)
