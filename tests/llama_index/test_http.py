"""HTTP as the core has it: retries, waits, closing, loops, many calls at once."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.base.llms.base import BaseLLM

from lunar_core import APITimeoutError, InternalServerError, RateLimitError
from tests.faults_steps import DONE, chunk, completion, drip, hang, reply, sse
from tests.llama_index.support import ENDPOINTS, STREAMS, ask, until, user


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("retries", [0, 1])
async def test_retries_are_the_cores_alone(endpoint, retries, llm_on, faults):
    faults.always(reply(503, headers=["retry-after-ms: 1"]))
    with pytest.raises(InternalServerError):
        await ask(llm_on(faults, max_retries=retries), endpoint)
    assert len(faults.requests) == retries + 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_the_wait_that_the_service_asks_for_is_kept(endpoint, llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, model="gpt-4o-mini!429-body=0.3*1")
    began = time.monotonic()
    assert await ask(llm, endpoint)
    assert time.monotonic() - began >= 0.3
    assert [r["status"] for r in lunar_sandbox.requests()] == [429, 200]


async def test_a_wait_that_is_too_long_is_told_at_once(llm_on, lunar_sandbox):
    llm = llm_on(lunar_sandbox, model="gpt-4o-mini!429-body=3600")
    with pytest.raises(RateLimitError) as error:
        await ask(llm, "achat")
    assert error.value.retry_after == 3600


@pytest.mark.parametrize("endpoint", STREAMS)
async def test_a_stream_falls_back_until_its_first_word(endpoint, llm_on, faults):
    faults.script(
        sse({"error": {"message": "overloaded"}}),
        sse(chunk("ok", finish="stop", model="second"), DONE),
    )
    llm = llm_on(faults, model="first", fallbacks=["second"], max_retries=0)
    last = (await ask(llm, endpoint))[-1]
    assert last.raw["model"] == "second"
    assert faults.models == ["first", "second"]


async def test_a_deadline_covers_the_whole_of_a_stream(llm_on, faults):
    slow = drip(b"data: " + b" " * 100, every=0.05)
    faults.always(sse(chunk("a"), slow))
    with pytest.raises(APITimeoutError):
        await ask(llm_on(faults, total_timeout=0.3), "astream_chat")


async def test_options_of_a_call_are_not_sent(llm_on, faults):
    faults.always(reply(json=completion()))
    await ask(
        llm_on(faults),
        "chat",
        timeout=5,
        max_retries=1,
        total_timeout=9,
        fallbacks=["x"],
        extra_headers={"x-a": "b"},
        extra_body={"seed": 1},
    )
    (request,) = faults.requests
    assert request.header("x-a") == "b"
    assert request.json.keys() == {"model", "messages", "seed", "stream"} & request.json.keys()
    assert request.json["seed"] == 1


@pytest.mark.parametrize("endpoint", STREAMS)
@pytest.mark.parametrize("watched", [False, True], ids=["unwatched", "a handler keeps events"])
@pytest.mark.parametrize("how", ["left", "closed", "dropped"])
async def test_a_stream_that_is_left_frees_its_connection(
    endpoint, watched, how, llm_on, faults, request
):
    if watched:
        request.getfixturevalue("recorder")
    faults.always(sse(chunk("a"), chunk("b"), hang))
    llm = llm_on(faults)
    stream = await begin(llm, endpoint, words=0 if how == "dropped" else 1)
    assert faults.open == 1
    if how == "closed":
        await stream.aclose() if endpoint.startswith("a") else stream.close()
    del stream
    await until(lambda: faults.open == 0)


async def begin(llm, endpoint, words):
    said = "hi" if "complete" in endpoint else user("hi")
    stream = getattr(llm, endpoint)(said)
    if not endpoint.startswith("a"):
        for _ in range(words):
            next(stream)
        return stream
    stream = await stream
    for _ in range(words):
        await anext(stream)
    return stream


async def test_streams_leave_their_connections_to_the_next_call(llm, lunar_sandbox):
    for _ in range(5):
        await ask(llm, "astream_chat")
    about = lunar_sandbox.about()
    assert await ask(llm, "acomplete")
    assert about["connections"]["total"] <= 4 if "connections" in about else True


def test_one_llm_serves_several_event_loops(llm):
    for number in range(3):
        answers = asyncio.run(ask(llm, "astream_chat", f"Say {number}"))
        assert answers[-1].message.content == str(number)
        assert asyncio.run(llm.acomplete(f"Say {number}")).text == str(number)


def test_one_llm_serves_loops_in_several_threads_at_once(llm):
    answers = {}

    def work(number):
        answers[number] = asyncio.run(ask(llm, "achat", f"Say {number}"))[0].message.content

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: str(n) for n in range(6)}


async def test_many_calls_at_once_get_their_own_answers(llm):
    texts = [f"answer {n}" for n in range(60)]
    plain = asyncio.gather(*(llm.acomplete(f"Say {text}") for text in texts))
    streamed = asyncio.gather(*(ask(llm, "astream_chat", f"Say {text}") for text in texts))
    assert [answer.text for answer in await plain] == texts
    assert [answers[-1].message.content for answers in await streamed] == texts


def test_many_threads_at_once_get_their_own_answers(llm):
    def work(number):
        return list(llm.stream_complete(f"Say {number}"))[-1].text

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(work, range(48))) == [str(n) for n in range(48)]


class Limiter:
    """Counts who asks."""

    def __init__(self):
        self.asked = []

    def acquire(self, num_tokens=0):
        self.asked.append("sync")

    async def async_acquire(self, num_tokens=0):
        self.asked.append("async")


@pytest.mark.skipif(
    "rate_limiter" not in BaseLLM.model_fields, reason="this LlamaIndex has no rate limiters yet"
)
async def test_a_rate_limiter_is_asked_once_before_each_call(llm_on, lunar_sandbox):
    limiter = Limiter()
    llm = llm_on(lunar_sandbox, rate_limiter=limiter)
    for endpoint in ENDPOINTS:
        await ask(llm, endpoint)
    assert sorted(limiter.asked) == ["async"] * 4 + ["sync"] * 4


async def test_closing_frees_all_connections(llm_on, faults):
    faults.always(reply(json=completion()))
    llm = llm_on(faults)
    await ask(llm, "chat")
    await ask(llm, "achat")
    assert faults.open == 2
    await llm.aclose()
    await until(lambda: faults.open == 0)
