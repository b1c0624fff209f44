"""Both clients, against what a service once said: true of any recording, from the sandbox or the hosted one.

Why these aren't sandbox tests: a tape doesn't care who plays, so they notice when *we* begin to send
something else, and they keep their say when the sandbox and the client drift in the same direction.
"""

import json
import re

import pytest
from vcr.errors import CannotOverwriteExistingCassetteException

from lunar_core import (
    ChatCompletion,
    Completion,
    Ledger,
    LunarError,
    NotFoundError,
    RoutedCompletion,
    RoutingDecision,
)
from tests.cassettes import tape
from tests.cassettes.tape import CALLS, CANDIDATES, FOLDER
from tests.core.conftest import AsyncSide, SyncSide

SERVICE = "https://service"


@pytest.fixture(params=[SyncSide, AsyncSide], ids=["sync", "async"])
def side(request):
    side = request.param()
    yield side
    side.close()


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def client(side, ledger):
    """A client whose requests go through httpx's own client, where the recorder listens."""
    return side(SERVICE, http_client=side.httpx_client(), observers=[ledger])


@pytest.fixture
def play(client):
    def run(name):
        with tape.tape(name) as played:
            answer = CALLS[name](client)
            assert played.all_played
        return answer

    return run


def test_a_client_of_nobodys_goes_where_the_recorder_listens(side):
    with tape.tape("chat") as played:
        answer = CALLS["chat"](side(SERVICE))
        assert played.all_played
    assert answer.choices[0].message.content


def test_every_call_has_its_tape_and_every_tape_its_call():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CALLS)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("chat", ChatCompletion),
        ("chat.stream", ChatCompletion),
        ("router", RoutedCompletion),
        ("router.stream", ChatCompletion),
        ("router.then-chat", ChatCompletion),
        ("router.then-chat.stream", ChatCompletion),
        ("completions", Completion),
        ("completions.stream", Completion),
    ],
)
def test_words_come_with_who_said_them_and_their_price_where_it_was_told(name, kind, play, ledger):
    answer = play(name)
    assert isinstance(answer, kind)
    (choice,) = answer.choices
    assert choice.text if kind is Completion else choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.model
    text = FOLDER.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    assert (answer.usage is not None and answer.usage.cost is not None) is (
        "total_cost_usd" in text
    )
    entry = [entry for entry in ledger if entry.endpoint != "router.decide"][-1]
    assert (entry.model, entry.cost) == (answer.model, answer.usage and answer.usage.cost)


@pytest.mark.parametrize("name", ["router", "router.stream"])
def test_a_routed_answer_names_the_candidate_that_was_chosen(name, play):
    answer = play(name)
    assert answer.routing.selected_model == answer.model
    assert answer.model in CANDIDATES


def test_a_decision_says_why(play):
    decision = play("router.decide")
    assert isinstance(decision, RoutingDecision)
    assert decision.selected_model in CANDIDATES
    assert decision.cluster_id is not None
    assert decision.reasoning


@pytest.mark.parametrize("name", ["router.then-chat", "router.then-chat.stream"])
def test_the_model_that_was_decided_on_is_the_one_that_answers(name, play):
    answer = play(name)
    assert answer.routing.selected_model == answer.model
    assert [attempt.model for attempt in answer.call.attempts] == ["router", answer.model]


@pytest.mark.parametrize("name", ["tools", "tools.stream"])
def test_a_forced_tool_is_called_with_arguments_that_are_json(name, play):
    (call,) = play(name).choices[0].message.tool_calls
    assert call.id
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"]


def test_the_catalogue_is_read(play):
    profiles, models = play("router.profiles"), play("models")
    assert profiles.count == len(profiles.profiles) > 1
    assert {model.id for model in models} >= set(CANDIDATES)
    assert [provider.id for provider in play("providers")]


def test_an_unknown_model_is_not_found(play):
    with pytest.raises(NotFoundError, match="no-such-model"):
        play("no-such-model")


CHANGES = {
    "a value": {"temperature": 0.6},
    "a limit": {"max_tokens": 101},
    "a message": {"messages": [{"role": "user", "content": "Prove it."}]},
    "the model": {"model": "gpt-4o"},
    "a field more": {"top_p": 1.0},
    "a field less": {"temperature": None},
    "a field of tomorrow": {"extra_body": {"x_of_tomorrow": 1}},
    "streaming": {"stream": True},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_one_field_that_is_sent_differently_is_not_on_the_tape(change, client):
    with tape.tape("chat"), pytest.raises(LunarError) as caught:
        tape.chat(client, **change)
    assert CannotOverwriteExistingCassetteException.__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("taped", "call"),
    [
        ("models", lambda client: client.router.profiles()),
        ("providers", lambda client: client.providers.list(model="gpt-4o")),
    ],
    ids=["the path", "the query"],
)
def test_nor_is_what_is_asked_elsewhere(taped, call, client):
    with tape.tape(taped), pytest.raises(LunarError) as caught:
        call(client)
    assert CannotOverwriteExistingCassetteException.__name__ in str(caught.value)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_tape_holds_a_key_or_names_a_machine(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(
        r"pk_(live|test)|bearer|x-api-key|authorization|cookie", text, re.IGNORECASE
    )
    assert not re.search(r"127\.0\.0\.1|localhost", text)
    assert text.count("uri: https://service/v1/") == text.count("uri: ")
