"""Context windows, and what providers say when they refuse: in both dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lunar_core.sandbox.catalogue import MODELS
from lunar_core.sandbox.provider_errors import KINDS
from tests.sandbox.raw import HELLO, KEY, Reply, chat, post

if TYPE_CHECKING:
    from lunar_core.sandbox import Sandbox

WINDOW = MODELS["gpt-3.5-turbo"].window
SMALL = "gpt-3.5-turbo"
INSTRUCT = "gpt-3.5-turbo-instruct"
LIMIT = f"This model's maximum context length is {WINDOW} tokens"


@pytest.fixture
def observed(lunar_sandbox_factory: Any) -> Sandbox:
    return lunar_sandbox_factory(dialect="observed")


def words(number: int) -> list[dict[str, Any]]:
    """Write a message of so many tokens; three of them are the message's own."""
    return [{"role": "user", "content": "word " * (number - 3)}]


def openai_error(reply: Reply) -> str:
    """Check that an answer is OpenAI's refusal of a long prompt; return its sentence."""
    error = reply.json()["error"]
    assert reply.status == 400
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")
    return str(error["message"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_fits_exactly_is_answered_and_one_token_more_is_refused(
    lunar_sandbox: Sandbox, *, stream: bool
) -> None:
    assert chat(lunar_sandbox, model=SMALL, messages=words(WINDOW), stream=stream).status == 200
    reply = chat(lunar_sandbox, model=SMALL, messages=words(WINDOW + 1), stream=stream)
    assert openai_error(reply) == (
        f"{LIMIT}. However, your messages resulted in {WINDOW + 1} tokens."
        " Please reduce the length of the messages."
    )
    assert len(lunar_sandbox.billed()) == 1


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_answer_must_fit_too(lunar_sandbox: Sandbox, name: str) -> None:
    body: dict[str, Any] = {"model": SMALL, "messages": words(WINDOW - 10)}
    assert chat(lunar_sandbox, **body, **{name: 10}).status == 200
    assert openai_error(chat(lunar_sandbox, **body, **{name: 11})) == (
        f"{LIMIT}. However, you requested {WINDOW + 1} tokens ({WINDOW - 10} in the messages,"
        " 11 in the completion). Please reduce the length of the messages or completion."
    )


def test_tools_and_schemas_are_read_too(lunar_sandbox: Sandbox) -> None:
    parameters = {"type": "object", "description": "word " * WINDOW}
    tools = [{"type": "function", "function": {"name": "f", "parameters": parameters}}]
    openai_error(chat(lunar_sandbox, model=SMALL, tools=tools))


def test_a_texts_prompt_and_its_1024_tokens_must_fit(lunar_sandbox: Sandbox) -> None:
    window = MODELS[INSTRUCT].window
    body = {"model": INSTRUCT, "prompt": "word " * (window - 1024)}
    assert post(lunar_sandbox, "/v1/completions", body).status == 200
    body["prompt"] += "word"
    assert openai_error(post(lunar_sandbox, "/v1/completions", body)) == (
        f"This model's maximum context length is {window} tokens, however you requested"
        f" {window + 1} tokens ({window - 1023} in your prompt; 1024 for the completion)."
        " Please reduce your prompt; or completion length."
    )


def test_the_routed_models_window_counts_and_a_decision_has_none(lunar_sandbox: Sandbox) -> None:
    body = {"messages": words(WINDOW + 1), "models": [SMALL, "gpt-4-turbo"]}
    assert post(lunar_sandbox, "/v1/router", body).status == 200  # gpt-4-turbo errs less
    small = {**body, "cost_weight": 100}
    openai_error(post(lunar_sandbox, "/v1/router", small))
    decision = post(lunar_sandbox, "/v1/router", {**small, "execute": False})
    assert decision.json()["routing"]["selected_model"] == SMALL


def test_the_backend_hides_it_in_a_502(observed: Sandbox) -> None:
    long = words(WINDOW + 1)
    reason = (
        "openai error: litellm.ContextWindowExceededError: litellm.BadRequestError:"
        f" ContextWindowExceededError: OpenAIException - {LIMIT}."
        f" However, your messages resulted in {WINDOW + 1} tokens."
        " Please reduce the length of the messages."
    )
    for stream in (False, True):
        reply = chat(observed, model=SMALL, messages=long, stream=stream)
        detail = f"All providers failed for model '{SMALL}': {reason}"
        assert (reply.status, reply.json()) == (502, {"detail": detail})
    body = {"messages": long, "models": [SMALL, "gpt-4-turbo"], "cost_weight": 100}
    reply = post(observed, "/v1/router", body)
    assert (reply.status, reply.json()) == (502, {"detail": f"Model execution failed: {reason}"})
    assert observed.billed() == []


def test_the_backend_ignores_how_long_the_answer_may_be(observed: Sandbox) -> None:
    assert chat(observed, model=SMALL, messages=words(WINDOW), max_tokens=WINDOW).status == 200


def test_a_fault_says_the_same_of_any_prompt(lunar_sandbox: Sandbox, observed: Sandbox) -> None:
    sentence = openai_error(chat(lunar_sandbox, model=f"{SMALL}!context-length"))
    assert sentence.startswith(f"{LIMIT}. However, your messages resulted in {WINDOW + 1} tokens.")
    reply = chat(observed, model=f"{SMALL}!context-length")
    assert reply.status == 502
    assert sentence in reply.json()["detail"]
    assert chat(observed, model=f"{SMALL}!502-context").json() == {
        "detail": reply.json()["detail"].replace("!context-length", "!502-context")
    }


LITELLM = {
    "rate-limit": "litellm.RateLimitError: RateLimitError: ",
    "context": "litellm.ContextWindowExceededError: litellm.BadRequestError: ",
    "bad-request": "litellm.BadRequestError: ",
    "policy": "litellm.ContentPolicyViolationError: litellm.BadRequestError: ",
    "auth": "litellm.AuthenticationError: AuthenticationError: ",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dialect", ["documented", "observed"])
def test_a_502_carries_what_the_provider_said(
    lunar_sandbox_factory: Any, dialect: str, kind: str
) -> None:
    sandbox = lunar_sandbox_factory(dialect=dialect)
    for provider, model, brand in (
        ("openai", "gpt-4o", "OpenAI"),
        ("mistral", "mistral-small-latest", "Mistral"),
        ("azure", "azure/gpt-4o", "Azure"),
    ):
        reply = chat(sandbox, model=f"{model}!502-{kind}")
        detail = reply.json()["detail"]
        before = f"All providers failed for model '{model}!502-{kind}': {provider} error: "
        assert reply.status == 502
        assert detail.startswith(before + LITELLM[kind])
        assert f"{brand}Exception - " in detail
    models = [f"gpt-4o!502-{kind}", f"gpt-4o-mini!502-{kind}"]
    detail = post(sandbox, "/v1/router", {"messages": HELLO, "models": models}).json()["detail"]
    assert LITELLM[kind] in detail
    assert detail.startswith("Model execution failed: ") is (dialect == "observed")


def test_such_a_fault_may_pass(lunar_sandbox: Sandbox) -> None:
    headers = {**KEY, "x-sandbox-fault": "502-rate-limit*1"}
    assert [chat(lunar_sandbox, headers).status for _ in range(2)] == [502, 200]
