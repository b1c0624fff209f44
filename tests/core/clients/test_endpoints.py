"""Every endpoint of the contract, plain: what is sent, and what comes back."""

import json
from decimal import Decimal

import pytest

from lunar_core import (
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    LunarError,
    NotFoundError,
    RateLimitError,
)
from tests.core.clients.conftest import HELLO

documented = pytest.mark.parametrize("sandbox", ["documented"], indirect=True)
observed = pytest.mark.parametrize("sandbox", ["observed"], indirect=True)

JWT = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"
PROFILED = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-4-turbo",
    "gpt-3.5-turbo",
    "mistral-large-latest",
    "mistral-small-latest",
]


# Words


def test_an_answer_has_its_words_its_model_and_its_price(ask, client, sandbox, words):
    answer = ask.plain(client)
    (bill,) = sandbox.billed()
    assert words(answer) == "hello to all four of us"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.id, answer.model) == (bill["id"], bill["model"])
    assert answer.usage.total_tokens == bill["prompt_tokens"] + bill["completion_tokens"]
    assert answer.usage.cost == Decimal(repr(bill["total_cost_usd"]))
    assert answer.usage.latency_ms is not None


def test_what_the_client_knows_of_a_call_is_beside_the_answer(ask, client, sandbox):
    call = ask.plain(client).call
    record = sandbox.requests()[-1]
    assert call.call_id.startswith("call_")
    assert call.requested_model == ("gpt-4o-mini" if ask.name in ("chat", "text") else "router")
    assert (call.request_id, record["path"]) == (record["request_id"], ask.path)
    assert call.headers["content-type"] == "application/json"
    assert [attempt.status_code for attempt in call.attempts] == [200] * len(sandbox.requests())
    assert call.latency_ms > 0


def test_two_calls_have_two_names(client, ask):
    assert ask.plain(client).call.call_id != ask.plain(client).call.call_id


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_sent_is_what_was_given_and_nothing_else(streamed, client, sandbox):
    given = {"model": "gpt-4o-mini", "messages": HELLO, "temperature": 0.2, "x_of_tomorrow": [1]}
    options = {"timeout": 9, "max_retries": 1, "total_timeout": 99, "fallbacks": ["gpt-4o"]}
    answer = client.chat.completions.create(
        **given, **options, stream=streamed, extra_body={"seed": 7}, extra_headers={"x-team": "a"}
    )
    if streamed:
        answer.get_final_completion()
    (record,) = sandbox.requests()
    body = given | {"seed": 7} | ({"stream": True} if streamed else {})
    assert {"stream": False} | json.loads(record["body"]) == {"stream": False} | body
    headers = record["headers"]
    assert (record["method"], headers["content-type"]) == ("POST", "application/json")
    assert headers["accept"] == ("text/event-stream" if streamed else "application/json")
    assert headers["x-api-key"] == "[redacted]"
    assert (headers["x-team"], "authorization" in headers) == ("a", False)
    assert headers["user-agent"].startswith("lunar-integrations/")


def test_a_provider_can_be_forced_by_the_models_name(client):
    answer = client.chat.completions.create(model="openai/gpt-4o-mini", messages=HELLO)
    assert answer.model == "openai/gpt-4o-mini"


# Routes


def test_a_decision_names_a_model_and_says_why_and_costs_nothing(client, sandbox):
    decision = client.router.decide(messages=HELLO, models=PROFILED[:2], cost_weight=0.5)
    assert decision.selected_model in PROFILED[:2]
    assert 0 <= decision.expected_error <= 1
    assert decision.cost_adjusted_score >= decision.expected_error
    assert "0.5" in decision.reasoning
    assert decision.call.request_id == sandbox.requests()[-1]["request_id"]
    body = {"messages": HELLO, "execute": False, "models": PROFILED[:2], "cost_weight": 0.5}
    assert json.loads(sandbox.requests()[-1]["body"]) == body
    assert sandbox.billed() == []


def test_a_decision_can_be_had_as_a_routed_completion_without_choices(client):
    answer = client.router.create(messages=HELLO, execute=False)
    assert answer.choices == []
    assert answer.routing.model_dump() == client.router.decide(messages=HELLO).model_dump()


@pytest.mark.parametrize("ask", ["router", "model=router", "decide, then call"], indirect=True)
def test_a_routed_answer_says_who_was_chosen(ask, client):
    answer = ask.plain(client)
    assert answer.routing.selected_model == answer.model
    assert answer.routing.reasoning
    assert answer.routing.call == answer.call


def test_a_higher_cost_weight_chooses_a_cheaper_model(client):
    hard = [{"role": "user", "content": "Prove that there are infinitely many primes"}]
    dear, cheap = (
        client.chat.completions.create(model="router", messages=hard, cost_weight=weight)
        for weight in (0.0, 100.0)
    )
    assert dear.model != cheap.model
    assert cheap.usage.cost < dear.usage.cost


def test_deciding_first_asks_with_the_text_and_then_sends_everything(client, sandbox):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    asked = {"messages": [{"role": "user", "content": parts}], "seed": 7}
    if sandbox.dialect == "observed":  # takes strings alone
        asked = {"messages": [{"role": "user", "content": "What is this?", "name": "a"}], "seed": 7}
    answer = client.chat.completions.create(model="router", **asked)
    first, second = sandbox.requests()
    text = [{"role": "user", "content": "What is this?"}]
    assert json.loads(first["body"]) == {"messages": text, "execute": False}
    assert {"stream": False} | json.loads(second["body"]) == {
        "model": answer.routing.selected_model,
        "stream": False,
        **asked,
    }


# The catalogue


def test_profiles_are_the_models_that_can_be_routed_to(client):
    profiles = client.router.profiles()
    assert (profiles.profiles, profiles.count) == (PROFILED, 6)


def test_models_are_listed_with_their_prices_where_the_service_says_them(client, sandbox):
    models = {model.id: model for model in client.models.list()}
    assert models.keys() >= set(PROFILED)
    assert models["gpt-4o"].owned_by == "openai"
    paths = [record["path"] for record in sandbox.requests()]
    if sandbox.dialect == "documented":
        assert paths == ["/v1/models"]
        assert models["gpt-4o"].input_per_million is None
    else:
        assert paths == ["/v1/models", "/v1/pricing/models"]
        assert models["gpt-4o"].input_per_million == 2.5
        assert [p.id for p in models["gpt-4o"].providers] == ["openai", "azure"]


def test_the_price_list_says_what_models_cost(client, sandbox):
    prices = {model.id: model for model in client.models.prices()}
    assert [record["path"] for record in sandbox.requests()] == ["/v1/pricing/models"]
    assert prices["gpt-4o"].input_per_million == 2.5
    assert [p.id for p in prices["gpt-4o"].providers] == ["openai", "azure"]


def test_providers_are_those_of_the_model_that_is_asked_about(client, sandbox):
    assert [p.id for p in client.providers.list()] == ["openai", "azure"]
    (provider,) = client.providers.list(model="mistral-small-latest")
    kinds = {"documented": "primary", "observed": "mistral_litellm"}
    assert (provider.id, provider.type) == ("mistral", kinds[sandbox.dialect])
    assert provider.enabled
    queries = [record["query"] for record in sandbox.requests()]
    assert queries == ["", "model=mistral-small-latest"]


# Refusals


@pytest.mark.parametrize("streamed", [False, True])
def test_a_model_that_does_not_exist_is_not_found(streamed, client):
    with pytest.raises(NotFoundError, match="nope") as caught:
        client.chat.completions.create(model="nope", messages=HELLO, stream=streamed)
    assert (caught.value.status_code, len(caught.value.attempts)) == (404, 1)
    assert caught.value.request_id.startswith("req_")


def test_a_key_that_the_service_does_not_know_is_an_authentication_error(connect, sandbox):
    stranger = connect(sandbox.url, api_key="sk-of-another-service")
    with pytest.raises(AuthenticationError, match="Authentication required"):
        stranger.chat.completions.create(model="gpt-4o-mini", messages=HELLO)


def test_a_token_is_as_good_as_a_key(connect, sandbox):
    bearer = connect(sandbox.url, api_key=None, jwt=JWT)
    assert bearer.chat.completions.create(model="gpt-4o-mini", messages=HELLO).choices
    assert sandbox.requests()[-1]["headers"]["authorization"] == "Bearer [redacted]"


@observed
def test_but_the_observed_router_wants_a_key_and_the_error_says_so(connect, sandbox):
    bearer = connect(sandbox.url, api_key=None, jwt=JWT)
    for refused in (
        lambda: bearer.router.decide(messages=HELLO),
        lambda: bearer.router.create(messages=HELLO, stream=True),
        lambda: bearer.chat.completions.create(model="router", messages=HELLO),
        bearer.router.profiles,
    ):
        with pytest.raises(AuthenticationError, match=r"Missing x-api-key header.*use api_key="):
            refused()


@documented
def test_the_documented_router_takes_both(connect, sandbox):
    bearer = connect(sandbox.url, api_key=None, jwt=JWT)
    assert bearer.router.decide(messages=HELLO).selected_model in PROFILED


def test_a_candidate_without_a_profile_is_named(client):
    with pytest.raises(BadRequestError, match="o3-mini"):
        client.router.decide(messages=HELLO, models=["gpt-4o", "o3-mini"])


@pytest.mark.parametrize("form", ["body", "detail", "detail-s", "header", "ms", "date"])
def test_a_rate_limit_says_how_long_to_wait_in_every_form(form, client):
    with pytest.raises(RateLimitError) as caught:
        client.chat.completions.create(model=f"gpt-4o-mini!429-{form}=90", messages=HELLO)
    assert 88 <= caught.value.retry_after <= 90


def test_what_is_wrong_is_refused_before_anything_is_sent(client, sandbox, watching):
    for wrong in (
        lambda: client.chat.completions.create(model="", messages=HELLO),
        lambda: client.chat.completions.create(model="gpt-4o", messages=HELLO, temperature=3),
        lambda: client.completions.create(model="gpt-4o", prompt=["a"]),
        lambda: client.router.create(messages=HELLO, execute=False, stream=True),
        lambda: client.router.decide(messages=HELLO, models=["gpt-4o"]),
        lambda: client.providers.list(model=""),
    ):
        with pytest.raises(ConfigurationError):
            wrong()
    assert (sandbox.requests(), watching.starts, watching.outcomes) == ([], [], [])


def test_one_except_catches_whatever_the_service_does(client):
    for fault in (
        "400",
        "401-html",
        "404-message",
        "422-list",
        "500-empty",
        "502",
        "reset",
        "html",
    ):
        with pytest.raises(LunarError):
            client.chat.completions.create(model=f"gpt-4o-mini!{fault}", messages=HELLO)
