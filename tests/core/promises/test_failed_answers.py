"""A 200 that tells of a failure is a failure, plain and streamed alike; an answer that was blocked is an empty one."""

import pytest

from lunar_core import AnswerFailedError, Ledger
from tests.faults_steps import reply, sse

DIED = {"code": 502, "message": "upstream died"}
PAID = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5, "total_cost_usd": 0.001}


def answer(way, text="half an ans", *, choice=None, **fields):
    """An answer of one choice, in one piece or as a stream."""
    choice = {"index": 0, "finish_reason": "error", **(choice or {})}
    message = {"role": "assistant", "content": text}
    if not way.streamed:
        return reply(json={"choices": [{**choice, "message": message}], **fields})
    begun = [{"choices": [{"index": 0, "delta": message}]}] if text else []
    return sse(*begun, {"choices": [{**choice, "delta": {}}], **fields})


FAILURES = {
    "an error on the choice": {"choice": {"error": DIED}},
    "an error beside the choices": {"error": DIED, "choice": {"finish_reason": "stop"}},
    "a finish_reason of error": {},
    "Gemini's word for a call that it has garbled": {
        "choice": {"finish_reason": "MALFORMED_FUNCTION_CALL"}
    },
    "vLLM's word for an answer that its engine gave up": {"choice": {"finish_reason": "abort"}},
    "DeepSeek's word for an answer that it has left": {
        "choice": {"finish_reason": "insufficient_system_resource"}
    },
}


def _inner(failure):
    return [failure.get("error"), failure.get("choice", {}).get("error")]


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_200_that_tells_of_a_failure_is_retried_and_fallen_back_from(
    failure, connect, way, fault_server, waits
):
    failed = answer(way, "", **failure)
    fault_server.script(failed, failed, way.answer("Hello!"))
    read = way.ask(connect(fault_server, max_retries=1, fallbacks=["another"]))
    assert read.choices[0].message.content == "Hello!"
    assert [attempt.model for attempt in read.call.attempts] == ["gpt-4o-mini"] * 2 + ["another"]


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_what_had_come_and_what_it_cost_are_on_the_error_and_counted_once(
    failure, connect, way, fault_server
):
    ledger = Ledger()
    fault_server.script(answer(way, usage=PAID, **failure))
    with pytest.raises(AnswerFailedError) as raised:
        way.ask(connect(fault_server, observers=[ledger]))
    assert raised.value.partial.choices[0].message.content == "half an ans"
    assert str(raised.value.partial.cost) == "0.001"
    assert (ledger.total.calls, str(ledger.total_cost)) == (1, "0.001")
    reason = failure.get("choice", {}).get("finish_reason", "'error'")
    assert ("upstream died" if DIED in _inner(failure) else reason) in str(raised.value)


@pytest.mark.parametrize(
    "fields",
    [{"error": {"code": 400, "message": "no"}}, {"choice": {"error": {"code": "400"}}}],
    ids=["beside", "on the choice"],
)
def test_its_code_says_whether_it_is_tried_again(fields, connect, way, fault_server):
    fault_server.always(answer(way, "", **fields))
    with pytest.raises(AnswerFailedError) as raised:
        way.ask(connect(fault_server, max_retries=2))
    assert raised.value.status_code == 400
    assert len(fault_server.requests) == 1


def test_an_error_without_choices_is_the_same_error_plain_and_as_the_first_event(
    connect, way, fault_server, waits
):
    told = {"error": {"code": 429, "message": "slow down"}}
    failed = sse(told) if way.streamed else reply(json=told)
    fault_server.script(failed, failed)
    with pytest.raises(AnswerFailedError, match="slow down") as raised:
        way.ask(connect(fault_server, max_retries=1))
    assert raised.value.status_code == 429
    assert raised.value.is_retryable


@pytest.mark.parametrize(
    "told",
    [{"detail": "upstream died"}, {"object": "error", "message": "upstream died"}],
    ids=["detail", "an object that is an error"],
)
def test_so_is_one_in_other_words_also_where_the_router_is_asked_to_decide(
    told, connect, way, fault_server, waits
):
    failed = sse(told) if way.streamed else reply(json=told)
    fault_server.script(failed, way.answer("Hello!"), reply(json=told), reply(json=told))
    client = connect(fault_server, max_retries=1)
    assert way.ask(client).choices[0].message.content == "Hello!"
    with pytest.raises(AnswerFailedError, match="upstream died") as raised:
        client.router.decide(messages=[{"role": "user", "content": "Hello!"}])
    assert len(raised.value.attempts) == 2


@pytest.mark.parametrize("content", [{}, {"message": None, "delta": None}], ids=["missing", "null"])
def test_a_blocked_answer_is_an_empty_answer_with_its_reason_and_its_cost(
    content, connect, way, fault_server
):
    blocked = {
        "choices": [{"index": 0, "finish_reason": "content_filter", **content}],
        "usage": PAID,
    }
    fault_server.script(sse(blocked) if way.streamed else reply(json=blocked))
    read = way.ask(connect(fault_server))
    assert (read.choices[0].message.content or "") == ""
    assert (read.choices[0].finish_reason, str(read.cost)) == ("content_filter", "0.001")


@pytest.mark.parametrize("text", [{}, {"text": None}], ids=["missing", "null"])
def test_a_blocked_text_is_an_empty_one_too(text, connect, fault_server):
    blocked = {"choices": [{"finish_reason": "content_filter", **text}], "usage": PAID}
    fault_server.script(reply(json=blocked))
    read = connect(fault_server).completions.create(model="m", prompt="p")
    assert (read.choices[0].text, read.choices[0].finish_reason) == ("", "content_filter")
    assert str(read.cost) == "0.001"


def test_an_answer_without_choices_is_an_error_that_keeps_its_cost(connect, way, fault_server):
    ledger, empty = Ledger(), {"choices": [], "usage": PAID}
    fault_server.script(sse(empty) if way.streamed else reply(json=empty))
    with pytest.raises(Exception, match=r".") as raised:
        way.ask(connect(fault_server, observers=[ledger]))
    assert str(raised.value.partial.cost) == "0.001"
    assert str(ledger.total_cost) == "0.001"


def test_choices_out_of_order_are_put_in_order(connect, way, fault_server):
    choices = [
        {
            "index": index,
            "finish_reason": "stop",
            ("delta" if way.streamed else "message"): {"content": text},
        }
        for index, text in ((1, "second"), (0, "first"))
    ]
    fault_server.script(
        sse({"choices": choices}) if way.streamed else reply(json={"choices": choices})
    )
    read = way.ask(connect(fault_server))
    assert [choice.message.content for choice in read.choices] == ["first", "second"]
