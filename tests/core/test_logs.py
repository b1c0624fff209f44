"""What the logger ``lunar_core`` says: why a call took the way it took, and never a key, a prompt or an answer."""

import asyncio
import logging
import re
import subprocess
import sys
import threading

import httpx
import pytest

from lunar_core import AsyncLunar, BadRequestError, ConfigurationError, Lunar, NotFoundError

SECRET_WORDS = "the-prompt-of-this-test"
HELLO = [{"role": "user", "content": f"Say hello to {SECRET_WORDS}"}]


@pytest.fixture
def lines(caplog):
    """The lines of our own logger, at DEBUG, as (level, text)."""
    caplog.set_level(logging.DEBUG, logger="lunar_core")

    def read():
        return [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "lunar_core"]

    return read


@pytest.fixture
def client(lunar_sandbox):
    with Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url, max_retries=1) as client:
        client._sleep = lambda _seconds: None
        yield client


def test_each_attempt_has_a_line_at_debug_and_each_finished_call_one_at_info(client, lines):
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    (level, attempt), (ended_level, ended) = lines()
    assert (level, ended_level) == ("DEBUG", "INFO")
    assert attempt.startswith(
        f"{answer.call.call_id}: POST /v1/chat/completions model=gpt-4o-mini status 200 in "
    )
    assert answer.call.request_id is None or answer.call.request_id in attempt
    assert ended == (
        f"{answer.call.call_id}: chat.completions ok model={answer.model} "
        f"cost={answer.usage.cost:f} USD after 1 attempt"
    )


def test_a_retry_and_a_fallback_say_why_and_how_long(client, lines, lunar_sandbox):
    client.chat.completions.create(
        model="gpt-4o-mini!503", messages=HELLO, fallbacks=["gpt-4o"], max_retries=1
    )
    retry, fallback, _ = [text for level, text in lines() if level == "INFO"]
    assert "retry of gpt-4o-mini!503 after InternalServerError 503, waiting " in retry
    assert "fallback from gpt-4o-mini!503 to gpt-4o after InternalServerError 503" in fallback


def test_an_attempt_that_is_interrupted_has_its_line_too(lines):
    def interrupt(_request):
        raise KeyboardInterrupt

    transport = httpx.MockTransport(interrupt)
    client = Lunar("pk_live_5d1c0e77", http_client=httpx.Client(transport=transport))
    with pytest.raises(KeyboardInterrupt):
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    (_, attempt), (_, ended) = lines()
    assert "POST /v1/chat/completions model=gpt-4o-mini KeyboardInterrupt in " in attempt
    assert " aborted model=gpt-4o-mini cost=unknown after 1 attempt" in ended


async def test_so_does_one_that_is_cancelled(lines):
    async def cancel(_request):
        raise asyncio.CancelledError

    http_client = httpx.AsyncClient(transport=httpx.MockTransport(cancel))
    client = AsyncLunar("pk_live_5d1c0e77", http_client=http_client)
    with pytest.raises(asyncio.CancelledError):
        await client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    (_, attempt), (_, ended) = lines()
    assert "POST /v1/chat/completions model=gpt-4o-mini CancelledError in " in attempt
    assert " aborted model=gpt-4o-mini cost=unknown after 1 attempt" in ended


@pytest.mark.parametrize(
    ("header", "shown"),
    [("req_1", "req_1"), ("req_1, req_2", "req_1, req_2"), (f"for {SECRET_WORDS}", "unknown")],
)
def test_a_request_id_of_several_words_is_not_told_for_it_may_quote_the_prompt(
    header, shown, lines
):
    def answer(_request):
        return httpx.Response(404, headers={"x-request-id": header})

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = Lunar("pk_live_5d1c0e77", http_client=http_client)
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    attempt = lines()[0][1]
    assert attempt.endswith(f"request id {shown}")


def waits(lines):
    return [text for level, text in lines() if level == "INFO" and "waited" in text]


def test_a_wait_over_a_second_for_a_connection_says_why_and_how_long(lunar_sandbox, lines):
    with Lunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url, max_connections=1) as client:
        ask = client.chat.completions.create
        for seconds in (0.1, 1.1):
            held = ask(model="gpt-4o-mini", messages=HELLO, stream=True)
            threading.Timer(seconds, held.close).start()
            ask(model="gpt-4o-mini", messages=HELLO)
    (wait,) = waits(lines)
    assert re.fullmatch(r"waited [1-9]\.\d\d s for a connection: max_connections were in use", wait)


async def test_so_does_one_of_the_async_client(lunar_sandbox, lines):
    async with AsyncLunar(
        lunar_sandbox.api_key, base_url=lunar_sandbox.url, max_connections=1
    ) as client:
        ask = client.chat.completions.create
        for seconds in (0.1, 1.1):
            held = await ask(model="gpt-4o-mini", messages=HELLO, stream=True)
            waiting = asyncio.create_task(ask(model="gpt-4o-mini", messages=HELLO))
            await asyncio.sleep(seconds)
            await held.aclose()
            await waiting
    (wait,) = waits(lines)
    assert wait.endswith("max_connections were in use")


ROUTED = {
    "one request": lambda client: client.chat.completions.create(model="router", messages=HELLO),
    "decided first": lambda client: client.chat.completions.create(
        model="router", messages=HELLO, stop=["END"]
    ),
    "a stream, decided first": lambda client: client.chat.completions.create(
        model="router", messages=HELLO, stream=True
    ).get_final_completion(),
    "the router": lambda client: client.router.create(messages=HELLO),
    "a stream of the router": lambda client: client.router.create(
        messages=HELLO, stream=True
    ).get_final_completion(),
}


@pytest.mark.parametrize("ask", ROUTED.values(), ids=ROUTED)
def test_a_route_is_told_once_however_it_came(ask, client, lines):
    answer = ask(client)
    (route,) = [text for _, text in lines() if "routed to" in text]
    assert f"{answer.call.call_id}: routed to {answer.model}, expected error " in route


def test_so_is_a_decision_alone(client, lines):
    route = client.router.decide(messages=HELLO)
    (told,) = [text for _, text in lines() if "routed to" in text]
    assert f"{route.call.call_id}: routed to {route.selected_model}, expected error " in told


def test_a_route_is_told_without_its_reasoning(client, lines):
    answer = client.chat.completions.create(model="router", messages=HELLO, stop=["END"])
    (route,) = [text for _, text in lines() if "routed to" in text]
    assert f"routed to {answer.routing.selected_model}, expected error " in route
    assert answer.routing.reasoning
    assert answer.routing.reasoning not in "".join(text for _, text in lines())


async def test_the_async_client_says_the_same(lunar_sandbox, lines):
    async with AsyncLunar(lunar_sandbox.api_key, base_url=lunar_sandbox.url) as client:
        stream = await client.chat.completions.create(
            model="gpt-4o-mini", messages=HELLO, stream=True
        )
        async for _ in stream:
            pass
    (_, attempt), (_, ended) = lines()
    assert "POST /v1/chat/completions model=gpt-4o-mini status 200" in attempt
    assert " chat.completions ok model=" in ended


def test_no_level_tells_a_key_a_prompt_an_answer_or_the_services_words(
    client, lines, lunar_sandbox
):
    answers = [client.chat.completions.create(model="gpt-4o-mini", messages=HELLO)]
    with pytest.raises(BadRequestError) as refusal:
        client.chat.completions.create(model="gpt-4o-mini!400", messages=HELLO)
    answers.append(client.chat.completions.create(model="router", messages=HELLO, stop=["END"]))
    text = "\n".join(text for _, text in lines())
    assert "status 200" in text
    for answer in answers:
        assert answer.choices[0].message.content not in text
    assert SECRET_WORDS not in text
    assert lunar_sandbox.api_key not in text
    assert "BadRequestError 400" in text
    words = refusal.value.body["detail"]
    assert words in str(refusal.value)
    assert words not in text


def test_a_models_name_cannot_begin_a_line_of_its_own(client, lines):
    with pytest.raises(NotFoundError):
        client.chat.completions.create(model="no\nERROR such\x1b[31m", messages=HELLO)
    assert lines()
    assert all(text.isprintable() for _, text in lines())


SCRIPT = """
from lunar_core import Lunar, sandbox
with sandbox.run() as box, Lunar(box.api_key, base_url=box.url) as client:
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
"""


@pytest.mark.parametrize(
    ("word", "levels"), [("debug", {"DEBUG", "INFO"}), ("INFO", {"INFO"}), ("", set())]
)
def test_the_environment_switches_the_lines_on(word, levels):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"LUNAR_LOG": word, "PYTHONPATH": ".", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    ours = [line.split()[3] for line in run.stderr.splitlines() if " lunar_core " in line]
    assert set(ours) == levels, run.stderr


def test_a_program_that_configures_logging_later_sees_each_line_once():
    configured = SCRIPT.replace(
        "as client:\n", "as client:\n    import logging; logging.basicConfig()\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", configured],
        env={"LUNAR_LOG": "info", "PYTHONPATH": ".", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = [line for line in run.stderr.splitlines() if "lunar_core" in line]
    assert line.startswith("INFO:lunar_core:call_")


def test_another_word_is_refused_by_the_variables_name(monkeypatch):
    monkeypatch.setenv("LUNAR_LOG", "chatty")
    with pytest.raises(ConfigurationError, match="LUNAR_LOG: expected info or debug"):
        Lunar("pk_live_5d1c0e77")
