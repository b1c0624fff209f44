"""Promises 19 and 20: the key is never shown, and a key that cannot work is refused."""

import contextlib
import copy
import logging
import pickle
import traceback

import httpx
import httpx2
import pytest

from lunar_core import (
    APIConnectionError,
    AsyncLunar,
    BadRequestError,
    ConfigurationError,
    Lunar,
    LunarError,
)
from tests.core.conftest import SIDES
from tests.faults import nobody_listens
from tests.faults_steps import chunk, close, completion, hang, head, reply, reset, spoken, sse

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


@pytest.fixture(params=[Lunar, AsyncLunar])
def kind(request):
    return request.param


@pytest.fixture
def secret_key():
    """A function, so that the frames of tests and fixtures don't hold the key itself."""
    return lambda: "pk_live_" + "5up3r" * 3


def shown_by(thing):
    """Everything that looking at an object shows: repr, str, and the same of all it holds."""
    seen, left = set(), [thing]
    while left:
        item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        yield repr(item)
        yield str(item)
        if type(item).__module__.startswith("lunar_core"):
            left += getattr(item, "__dict__", {}).values()
            left += [
                getattr(item, name, None)
                for sort in type(item).__mro__
                for name in getattr(sort, "__slots__", ())
            ]
        if isinstance(item, dict):
            left += [*item, *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            left += item


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_19_looking_at_a_client_never_shows_the_key(used, connect, way, key, fault_server):
    fault_server.script(way.answer())
    client = connect(fault_server, default_headers={"x-team": "7"})
    if used:
        way.ask(client)
    whole = connect.bare(client)
    shown = "".join([*shown_by(whole), *shown_by(whole.chat), *shown_by(whole.router)])
    assert key not in shown
    assert "LUNAR" in shown.upper()


def test_19_looking_at_answers_and_streams_never_shows_the_key(connect, key, fault_server):
    fault_server.script(
        reply(json=completion()), sse(*spoken("Hi")), reply(json={"profiles": [], "count": 0})
    )
    client = connect(fault_server)
    answer = client.chat.completions.create(**QUESTION)
    stream = client.chat.completions.create(**QUESTION, stream=True)
    shown = [*shown_by(answer), *shown_by(connect.bare(stream)), *map(repr, stream)]
    shown += [*shown_by(stream.get_final_completion()), *shown_by(client.router.profiles())]
    shown += [answer.model_dump_json(), repr(answer.call), str(vars(answer.call))]
    assert key not in "".join(shown)


def read_again():
    return "pk_live_from_a_function"


def test_19_a_pickle_carries_the_key_only_where_it_was_given(
    connect, way, key, fault_server, monkeypatch
):
    fault_server.always(way.answer())
    given = connect(fault_server)
    way.ask(given)
    assert key.encode() in pickle.dumps(connect.bare(given))
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_from_the_environment")
    for told, secret in (
        ({"api_key": None}, b"from_the_environment"),
        ({"api_key": read_again}, b"pk_live_from_a_function"),
    ):
        client = connect(fault_server, **told)
        way.ask(client)
        assert secret not in pickle.dumps(connect.bare(client))


@pytest.mark.parametrize(
    "twin",
    [lambda client: pickle.loads(pickle.dumps(client)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_19_a_copy_works_with_the_same_key_and_its_own_connections(
    used, twin, connect, way, key, fault_server
):
    fault_server.always(way.answer())
    client = connect(fault_server)
    if used:
        way.ask(client)
    other = connect.adopt(twin(connect.bare(client)))
    way.ask(other)
    other.close()
    way.ask(client)
    assert {request.header("x-api-key") for request in fault_server.requests} == {key}


def test_19_a_key_of_the_environment_is_read_again_where_the_pickle_is_loaded(
    connect, way, fault_server, monkeypatch
):
    fault_server.always(way.answer())
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_here")
    pickled = pickle.dumps(connect.bare(connect(fault_server, api_key=None)))
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_there")
    way.ask(connect.adopt(pickle.loads(pickled)))
    assert fault_server.requests[-1].header("x-api-key") == "pk_live_there"
    monkeypatch.delenv("LUNAR_API_KEY")
    with pytest.raises(ConfigurationError, match="LUNAR_API_KEY"):
        way.ask(connect.adopt(pickle.loads(pickled)))


def test_19_a_function_is_asked_for_the_key_of_each_request(connect, way, fault_server):
    keys = iter(["pk_one", "pk_two"])
    fault_server.always(way.answer())
    client = connect(fault_server, api_key=lambda: next(keys))
    way.ask(client)
    way.ask(client)
    assert [request.header("x-api-key") for request in fault_server.requests] == [
        "pk_one",
        "pk_two",
    ]


def test_19_a_function_that_fails_is_named_and_what_it_said_is_not(connect, way, fault_server):
    def broken():
        raise LookupError("no secret named pk_live_in_the_vault")

    with pytest.raises(ConfigurationError, match=r"api_key: .* raised LookupError") as caught:
        way.ask(connect(fault_server, api_key=broken, max_retries=2))
    assert "vault" not in str(caught.value)
    assert fault_server.total == 0


def test_19_and_for_no_more_than_that_when_requests_fail(connect, way, fault_server, waits):
    asked = []

    def ask():
        asked.append(f"pk_live_number_{len(asked)}")
        return asked[-1]

    def refuse(request):
        return reply(503, json={"detail": f"busy, {request.header('x-api-key')}"})

    fault_server.decide(refuse)
    with pytest.raises(LunarError, match=r"busy, \[redacted\]") as caught:
        way.ask(connect(fault_server, api_key=ask, max_retries=1))
    assert [request.header("x-api-key") for request in fault_server.requests] == asked
    assert "pk_live" not in repr(caught.value.attempts)


def test_19_a_function_that_fails_later_does_not_hide_what_failed_before(
    connect, way, fault_server
):
    keys = iter(["pk_live_the_only_one"])
    fault_server.script(reply(400, json={"detail": "no such field"}))
    with pytest.raises(BadRequestError, match="no such field"):
        way.ask(connect(fault_server, api_key=lambda: next(keys)))


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_19_nor_does_a_client_of_the_callers_own_show_it(library, connect, way, fault_server):
    own = connect.httpx_client(library)
    fault_server.decide(lambda r: reply(401, json={"detail": f"bad {r.header('x-api-key')}"}))
    with pytest.raises(LunarError, match=r"bad \[redacted\]"):
        way.ask(connect(fault_server, http_client=own))


FAILURES = {
    "401": reply(401, json={"detail": "no"}),
    "503": reply(503),
    "HTML": reply(200, "<html>"),
    "reset": reset,
    "closed": close,
    "not HTTP": [b"junk\r\n\r\n", close],
    "silence": hang,
    "cut off": sse(chunk("Hel"), reset),
    "an error event": sse(chunk("Hel"), {"detail": "no"}),
    "a malformed chunk": sse("data: {\n\n"),
}


def shows(error, secret_key):
    """Whether a traceback with local variables shows the key."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    report.__suppress_context__ = False  # some reporters print it all the same
    shown = "".join(report.format())
    assert "way = <" in shown
    return secret_key() in shown


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES)
def test_19_tracebacks_with_local_variables_do_not_show_it(
    answer, connect, way, fault_server, secret_key
):
    fault_server.script(answer)
    client = connect(fault_server, api_key=secret_key, timeout=0.2)
    with pytest.raises(LunarError) as caught:
        way.ask(client)
    assert not shows(caught.value, secret_key)


def test_19_nor_when_the_request_could_not_even_be_sent(connect, way, fault_server, secret_key):
    fault_server.greet(reset)
    for origin in (nobody_listens(), fault_server.origin):
        client = connect(origin, api_key=secret_key)
        with pytest.raises(APIConnectionError) as caught:
            way.ask(client, messages=[{"role": "user", "content": "x" * (8 << 20)}])
        assert not shows(caught.value, secret_key)


@pytest.mark.parametrize("end", [" e9", "\u20ace9", "\ne9"])
def test_19_nor_when_the_key_itself_is_at_fault(end, connect, way, fault_server):
    client = connect(fault_server, api_key=lambda: "pk_live_41c7" + end)
    with pytest.raises(ConfigurationError) as caught:
        way.ask(client)
    assert "pk_live_41c7" not in str(caught.value)
    ours = [
        (name, value)
        for frame, _line in traceback.walk_tb(caught.value.__traceback__)
        if "lunar_core" in frame.f_code.co_filename
        for name, value in frame.f_locals.items()
    ]
    assert ours
    assert not [name for name, value in ours if "pk_live_41c7" in repr(value)]
    assert not fault_server.requests


def test_19_debug_logs_of_everything_underneath_do_not_show_it(
    loggers, connect, way, key, fault_server, caplog
):
    caplog.set_level(logging.DEBUG)
    fault_server.script(way.answer(), reply(401), reset, hang)
    injected = connect.httpx_client() if "httpcore" in loggers else None
    client = connect(fault_server, http_client=injected)
    way.ask(client)
    for _fault in range(3):
        with pytest.raises(LunarError):
            way.ask(client, timeout=0.2)
    assert key not in caplog.text
    assert {record.name.partition(".")[0] for record in caplog.records} - {"asyncio"} == loggers
    assert not [record for record in caplog.records if key in repr(vars(record))]


HEADS = {
    "a header": lambda key: reply(400, headers=[f"x-request-id: {key}", f"x-echo: {key}"]),
    "the reason phrase": lambda key: head(400, ["content-length: 0"], reason=f"bad {key}"),
}


@pytest.mark.parametrize("echo", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("by_proxy", [False, True], ids=["straight", "by a proxy"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_19_a_head_that_repeats_it_is_in_no_log_of_our_own_connections(
    kind, by_proxy, echo, way, key, fault_server, caplog, monkeypatch
):
    caplog.set_level(logging.DEBUG)
    origin = fault_server.origin
    if by_proxy:
        monkeypatch.setenv("http_proxy", origin)
        origin = "http://lunar.test"
    fault_server.always(echo(key))
    side = SIDES[kind]()
    with contextlib.closing(side), pytest.raises(LunarError):
        way.ask(side(origin, max_retries=1, allow_http=True))
    assert len(fault_server.requests) == 1
    assert [record for record in caplog.records if record.name.startswith("lunar_core")]
    assert not [record for record in caplog.records if key in repr(vars(record))]


def test_19_an_answer_that_repeats_it_shows_it_neither_in_our_log_nor_in_what_is_known_of_the_call(
    connect, way, key, fault_server, caplog
):
    caplog.set_level(logging.DEBUG)
    echoes = [f"x-request-id: {key}", f"x-echo: {key}"]
    if way.streamed:
        words = [chunk("Hel", model=key), chunk("lo", model=key, finish="stop"), "data: [DONE]\n\n"]
        fault_server.script(sse(*words, headers=echoes))
    else:
        fault_server.script(reply(json=completion("Hello", model=key), headers=echoes))
    answer = way.ask(connect(fault_server))
    assert answer.call.request_id == "[redacted]"
    assert key not in "".join(shown_by(answer.call))
    lines = [record for record in caplog.records if record.name == "lunar_core"]
    assert [record.levelname for record in lines] == ["DEBUG", "INFO"]
    assert not [record for record in lines if key in repr(vars(record))]


ECHOES = {
    "a detail": lambda key: reply(401, json={"detail": f"Invalid API key {key}"}),
    "deep in a body": lambda key: reply(
        403, json={"error": {"message": "no", "x": [{key: [key]}]}}
    ),
    "HTML": lambda key: reply(502, f"<html><title>{key}</title></html>"),
    "a header": lambda key: reply(401, headers=[f"x-request-id: {key}", f"x-echo: {key}"]),
    "a 200": lambda key: reply(200, f"<p>hello {key}</p>"),
    "deeper than Python counts": lambda key: reply(
        400, '{"detail":' * 600 + f'"{key}"' + "}" * 600
    ),
    "deeper than that in an event": lambda key: sse(
        chunk("Hel"), 'data: {"error":' + "[" * 600 + f'"{key}"' + "]" * 600 + "}\n\n"
    ),
    "a list of faults": lambda key: reply(422, json={"detail": [{"loc": [key], "msg": key}]}),
    "an error event": lambda key: sse(chunk("Hel"), {"error": {"message": f"bad {key}"}}),
    "a malformed chunk": lambda key: sse(f"data: {{{key}\n\n"),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("secret", ["api_key", "jwt"])
def test_19_a_key_that_the_server_echoes_is_redacted(secret, echo, connect, way, key, fault_server):
    fault_server.script(echo(key))
    told = {"api_key": key} if secret == "api_key" else {"api_key": None, "jwt": key}
    with pytest.raises(LunarError) as caught:
        way.ask(connect(fault_server, **told))
    error = caught.value
    assert key not in "".join(
        [str(error), repr(error), *shown_by(vars(error)), repr(error.attempts)]
    )
    assert key.encode() not in pickle.dumps(error)
    assert (error.__cause__, error.__context__) == (None, None)  # which tblib would pickle too


@pytest.mark.parametrize("written", ["pk_live_1\n", "  pk_live_1", "\tpk_live_1\r\n"])
@pytest.mark.parametrize("source", ["argument", "environment", "function"])
def test_20_white_space_round_a_key_is_stripped(
    source, written, connect, way, fault_server, monkeypatch
):
    monkeypatch.setenv("LUNAR_API_KEY", written)
    given = {"argument": written, "environment": None, "function": lambda: written}
    fault_server.script(way.answer())
    way.ask(connect(fault_server, api_key=given[source]))
    assert fault_server.requests[0].header("x-api-key") == "pk_live_1"


@pytest.mark.parametrize(
    "bad",
    [
        "pk_live q7z",
        "pk_live_q7z\r\nx-evil: 1",
        "pk_live_q7z\x00-",
        "pk_live_q7zé",
        "\x7fpk_live_q7z",
    ],
)
@pytest.mark.parametrize("name", ["api_key", "jwt"])
def test_20_a_key_with_other_characters_is_refused_without_being_shown(
    name, bad, kind, monkeypatch
):
    with pytest.raises(ConfigurationError, match=name) as caught:
        kind(**{name: bad})
    # No environment can hold a NUL.
    monkeypatch.setenv(
        "LUNAR_API_KEY" if name == "api_key" else "LUNAR_JWT", bad.replace("\x00", " ")
    )
    with pytest.raises(ConfigurationError) as from_environment:
        kind()
    for error in (caught.value, from_environment.value):
        assert "q7z" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize("empty", ["", "   ", "\n"])
def test_20_an_empty_key_is_refused_and_no_key_names_the_sandbox(empty, kind, monkeypatch):
    with pytest.raises(ConfigurationError, match="api_key"):
        kind(api_key=empty)
    monkeypatch.setenv("LUNAR_API_KEY", empty)
    with pytest.raises(ConfigurationError, match=r"lunar_core\.sandbox"):
        kind()
