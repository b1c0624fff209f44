"""What is said to a proxy until a tunnel stands, byte by byte."""

import httpcore
import pytest

from lunar_core.client.tunnels import connect_dialogue, socks_dialogue

PROXY = httpcore.Proxy("http://127.0.0.1:3128")
KNOWN = httpcore.Proxy("http://127.0.0.1:3128", auth=("walter", "secret"))
BOUND = b"\x00\x00\x00\x00\x00\x00"


def hold(dialogue, *answers, size=None):
    """What was said in it, where the proxy answers so; each answer in pieces of `size` bytes."""
    said, words = [], next(dialogue)
    for answer in answers:
        said.append(words)
        step = size or max(len(answer), 1)
        for start in range(0, max(len(answer), 1), step):
            try:
                words = dialogue.send(answer[start : start + step])
            except StopIteration:
                return said
            assert start + step >= len(answer) or words == b""
    raise AssertionError(f"it goes on: {words!r}")


@pytest.mark.parametrize("size", [1, 7, None])
def test_connect_names_the_service_and_shows_the_credentials(size):
    standing = b"HTTP/1.1 200 Connection established\r\nx: y\r\n\r\n"
    [asked] = hold(connect_dialogue(KNOWN, "lunar.test", 443), standing, size=size)
    assert asked.startswith(b"CONNECT lunar.test:443 HTTP/1.1\r\nhost: lunar.test:443\r\n")
    assert b"Proxy-Authorization: Basic d2FsdGVyOnNlY3JldA==\r\n" in asked


def test_an_address_of_ip_6_stands_in_brackets():
    [asked] = hold(connect_dialogue(PROXY, "::1", 443), b"HTTP/1.1 200 OK\r\n\r\n")
    assert asked.startswith(b"CONNECT [::1]:443 ")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Who are you?\r\n\r\n", "answered 407 Proxy Authentication Required$"),
        (b"HTTP/1.1 599 \x80\r\n\r\n", "answered 599$"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "says more than it was asked"),
        (b"SSH-2.0\r\n\r\n", "does not speak HTTP"),
        (b"", "hung up"),
    ],
)
def test_a_proxy_that_makes_no_tunnel_is_told_of(answer, words):
    with pytest.raises(httpcore.ProxyError, match=words):
        hold(connect_dialogue(PROXY, "lunar.test", 443), answer)


def test_the_words_of_a_proxy_that_refuses_are_not_repeated():
    answer = b"HTTP/1.1 407 no such user: walter:secret \x1b[31m\r\n\r\n"
    with pytest.raises(httpcore.ProxyError) as refused:
        hold(connect_dialogue(PROXY, "lunar.test", 443), answer)
    assert str(refused.value) == "the proxy answered 407 Proxy Authentication Required"


SOCKS = {
    "a name": ("lunar.test", b"\x03\x0alunar.test"),
    "IP 4": ("127.0.0.1", b"\x01\x7f\x00\x00\x01"),
    "IP 6": ("::1", b"\x04" + bytes(15) + b"\x01"),
}
REACHED = {
    "IP 4": b"\x05\x00\x00\x01" + BOUND,
    "a name": b"\x05\x00\x00\x03\x03abc\x00\x00",
    "IP 6": b"\x05\x00\x00\x04" + bytes(18),
}


@pytest.mark.parametrize("size", [1, 3, None])
@pytest.mark.parametrize("reached", REACHED.values(), ids=REACHED)
@pytest.mark.parametrize(("host", "written"), SOCKS.values(), ids=SOCKS)
def test_socks_asks_for_the_host_and_takes_each_kind_of_answer(host, written, reached, size):
    said = hold(socks_dialogue(PROXY, host, 443), b"\x05\x00", reached, size=size)
    assert said == [b"\x05\x01\x00", b"\x05\x01\x00" + written + b"\x01\xbb"]


@pytest.mark.parametrize("size", [1, None])
def test_socks_shows_the_password_where_it_is_wanted(size):
    answers = [b"\x05\x02", b"\x01\x00", REACHED["IP 4"]]
    said = hold(socks_dialogue(KNOWN, "lunar.test", 80), *answers, size=size)
    assert said[:2] == [b"\x05\x02\x00\x02", b"\x01\x06walter\x06secret"]
    said = hold(socks_dialogue(KNOWN, "lunar.test", 80), b"\x05\x00", REACHED["IP 4"])
    assert b"secret" not in b"".join(said)


@pytest.mark.parametrize(
    ("proxy", "answers", "words"),
    [
        (PROXY, [b"HTTP/1.1 400"], "does not speak SOCKS 5"),
        (PROXY, [b"\x05\xff"], "wants credentials"),
        (PROXY, [b"\x05\x02"], "wants credentials"),
        (KNOWN, [b"\x05\x02", b"\x01\x01"], "refused the user or the password"),
        (PROXY, [b"\x05\x00", b"\x05\x05\x00\x01" + BOUND], "refused the connection"),
        (PROXY, [b"\x05\x00", b"\x05\x63\x00\x01" + BOUND], "code 99"),
        (PROXY, [b"\x05\x00", REACHED["IP 4"] + b"more"], "says more"),
        (PROXY, [b"\x05\x00", b"\x05\x00\x00\x09" + BOUND], "says more"),
        (PROXY, [b""], "hung up"),
        (PROXY, [b"\x05\x00", b"\x05", b""], "hung up"),
    ],
)
def test_a_socks_proxy_that_makes_no_connection_is_told_of(proxy, answers, words):
    with pytest.raises(httpcore.ProxyError, match=words) as caught:
        hold(socks_dialogue(proxy, "lunar.test", 443), *answers)
    assert "secret" not in str(caught.value)


def test_what_socks_cannot_carry_is_told_of():
    long = httpcore.Proxy(PROXY.url, auth=("walter", "x" * 256))
    with pytest.raises(httpcore.ProxyError, match="255 bytes"):
        hold(socks_dialogue(long, "lunar.test", 443), b"\x05\x02")
    with pytest.raises(httpcore.ProxyError, match="255 bytes"):
        hold(socks_dialogue(PROXY, "a" * 256, 443), b"\x05\x00")
