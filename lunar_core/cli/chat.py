"""``lunar-llm chat``: one question and its answer, or on a terminal a conversation with its running cost.

The key comes only from the environment: every process of the machine can read arguments.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import typer

from lunar_core import (
    CallStart,
    ChatCompletion,
    Completion,
    ConfigurationError,
    Entry,
    Ledger,
    Lunar,
    LunarError,
    Outcome,
    Prices,
    observing,
)
from lunar_core.cli.app import AsJson, BaseUrl, Store, app, open_client
from lunar_core.cli.inputs import (
    ROUTER,
    Candidates,
    CostWeight,
    checked_candidates,
    complete_model,
    instructions_of,
    messages_of,
    read_prompt,
)
from lunar_core.cli.printing import (
    answer_facts,
    is_on_a_terminal,
    print_answer,
    print_error,
    print_json,
    print_note,
)
from lunar_core.cost.entries import Estimate
from lunar_core.cost.prices import with_estimate
from lunar_core.cost.report.words import count_words, usd
from lunar_core.wire.params import ChatParams

HELP = """\
/model NAME  ask this model from now on
/route       have the router choose for each answer
/cost        what this conversation has cost
/new         forget what was said
/exit        end (as Ctrl-D does); Ctrl-C stops an answer"""


@app.command()
def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help="What to ask; - reads it from stdin. Without it: a conversation on a terminal, else stdin."
        ),
    ] = None,
    *,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="The model to ask. Default: router.",
            autocompletion=complete_model,
        ),
    ] = None,
    route: Annotated[
        bool, typer.Option("--route", help="Have the router choose for each answer (the default).")
    ] = False,
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    candidate: Candidates = None,
    cost_weight: CostWeight = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to generate at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    store: Store = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask a model, or talk with it. Its words are shown as they come, then their cost."""
    with open_client(base_url, store, as_json=as_json) as client:
        if route and model not in (None, ROUTER):
            raise ConfigurationError("--model, --route: give one of the two")
        params: ChatParams = {
            "models": checked_candidates(candidate),
            "cost_weight": cost_weight,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        name = ROUTER if model is None else model
        if prompt is None and not as_json and is_on_a_terminal() and _can_be_typed():
            ledger = Ledger(prices=_prices_of(client))
            with observing(ledger):
                ChatSession(client, ledger, name, params, system).run()
            return
        messages = messages_of(read_prompt("-" if prompt is None else prompt), system)
        if as_json:
            whole = client.chat.completions.create(model=name, messages=messages, **params)
            print_json(whole.model_dump(mode="json", exclude_none=True))
        else:
            outcomes = _Outcomes()
            with observing(outcomes):
                answer = show_answer(client, name, messages, params)
            estimate = outcomes.estimate_last(client) if answer.cost is None else None
            print_note(" · ".join(answer_facts(answer, estimate)))


def show_answer(
    client: Lunar, model: str, messages: list[dict[str, object]], params: ChatParams
) -> ChatCompletion | Completion:
    """Print an answer as it comes, and return it whole."""
    create = client.chat.completions.create
    with create(model=model, messages=messages, stream=True, **params) as stream:
        try:
            for chunk in stream:
                delta = chunk.choices[0].delta
                print_answer(delta.content or delta.refusal or "")
        finally:
            print_answer("\n")
        return stream.get_final_completion()


@dataclass
class ChatSession:
    """Questions from a terminal, and answers that know the earlier ones. ``ledger``: adds up their cost."""

    client: Lunar
    ledger: Ledger
    model: str
    params: ChatParams
    system: str | None = None
    messages: list[dict[str, object]] = field(default_factory=list)

    def run(self) -> None:
        """Ask and answer until the end of the input, or ``/exit``."""
        with suppress(ImportError):  # Windows has none, and edits lines itself
            __import__("readline")
        print_note(f"Talking with {self.model}. /help lists what else can be typed; Ctrl-D ends.")
        while (line := self._read_line()) is not None:
            text = line.strip()
            if text in ("/exit", "/quit"):
                break
            if text.startswith("/"):
                self._obey(text)
            elif text:
                self._answer(text)
        print_note(self._total())

    def _read_line(self) -> str | None:
        """The next line; None at the end of the input. One Ctrl-C does not end the conversation, two do."""
        try:
            return _ask()
        except KeyboardInterrupt:
            print_note("\nCtrl-C again, or Ctrl-D, ends.")
        return _ask()

    def _answer(self, text: str) -> None:
        question: dict[str, object] = {"role": "user", "content": text}
        messages = [*instructions_of(self.system), *self.messages, question]
        try:
            answer = show_answer(self.client, self.model, messages, self.params)
        except LunarError as error:  # the conversation goes on without that question
            print_error(error, as_json=False)
        except KeyboardInterrupt:
            print_note(f"stopped, and forgotten · {self._total()}")
        else:
            words = _words_of(answer)
            self.messages += [question, {"role": "assistant", "content": words}]
            entry = self.ledger.get(answer.call.call_id)
            facts = answer_facts(answer, None if entry is None else entry.estimate)
            print_note(" · ".join([*facts, self._total()]))

    def _obey(self, text: str) -> None:
        command, _, argument = text.partition(" ")
        if command == "/model" and argument.strip():
            self.model = argument.strip()
            print_note(f"Talking with {self.model}.")
        elif command == "/route":
            self.model = ROUTER
            print_note("The router chooses for each answer.")
        elif command == "/cost":
            print_note(self._total())
        elif command == "/new":
            self.messages.clear()
            print_note("Forgotten. What it has cost is not.")
        else:
            print_note(HELP)

    def _total(self) -> str:
        total = self.ledger.total
        if not total.unpriced:
            return f"so far {usd(total.cost)}"
        amounts = [f"{usd(total.cost)} as stated"] if total.cost else []
        if total.estimated:
            amounts.append(f"about {usd(total.estimated)} that was not stated")
        if total.unknown:
            amounts.append(f"{count_words(total.unknown, 'answer')} of unknown cost")
        return f"so far {', '.join(amounts)}"


class _Outcomes:
    """An observer that keeps outcomes, to estimate costs that the service did not state."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []

    def before(self, call: CallStart, /) -> None:
        """Do nothing."""

    def after(self, outcome: Outcome, /) -> None:
        self._outcomes.append(outcome)

    def estimate_last(self, client: Lunar) -> Estimate | None:
        """Estimate the cost of the last call by the service's own prices; None without a price."""
        outcome = self._outcomes[-1]
        return with_estimate(Entry.of(outcome), outcome, _prices_of(client)).estimate


def _prices_of(client: Lunar) -> Prices | None:
    """The service's own prices, to estimate costs that it does not state; None if it lists none."""
    try:
        return Prices.of(client.with_options(max_retries=0, timeout=5).models.prices())
    except LunarError:
        return None  # the first call will report the same failure


def _words_of(answer: ChatCompletion | Completion) -> str:
    """The text of an answer to a chat."""
    if not isinstance(answer, ChatCompletion) or not answer.choices:
        return ""
    message = answer.choices[0].message
    return message.content or message.refusal or ""


def _can_be_typed() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask() -> str | None:
    try:
        return input("> ")
    except EOFError:
        print_answer("\n")
        return None
    except UnicodeDecodeError:
        print_note("That was no text in this terminal's encoding.")
        return ""
