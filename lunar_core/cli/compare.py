"""``lunar-llm compare``: one prompt, several models at once, their answers side by side with what each cost."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lunar_core import ChatCompletion, Completion, ConfigurationError, Lunar, LunarError, Usage
from lunar_core.cli.app import AsJson, BaseUrl, Store, app, open_client
from lunar_core.cli.exit_codes import FAILED
from lunar_core.cli.inputs import Prompt, complete_model, messages_of, read_prompt
from lunar_core.cli.printing import is_on_a_terminal, print_answer, print_json
from lunar_core.cost.report.words import usd
from lunar_core.types.steering import STEERING
from lunar_core.wire.params import ChatParams

NARROWEST = 24
"""The narrowest column, in characters. Models that do not fit side by side stand below each other."""
MOST_AT_ONCE = 16


@dataclass(frozen=True)
class ModelAnswer:
    """The result of asking one model: an answer, or an error."""

    model: str
    completion: ChatCompletion | Completion | None = None
    error: LunarError | None = None

    @property
    def text(self) -> str:
        """The answer's text, or the error's."""
        if self.error is not None:
            return f"Error: {self.error}"
        if not isinstance(self.completion, ChatCompletion) or not self.completion.choices:
            return ""
        message = self.completion.choices[0].message
        return message.content or message.refusal or ""

    @property
    def usage(self) -> Usage:
        """Tokens and USD, each None if the service did not state it."""
        return (self.completion and self.completion.usage) or Usage()

    @property
    def name(self) -> str:
        """The requested model, and the one that answered if that is another."""
        answered_by = None if self.completion is None else self.completion.model
        if answered_by in (None, self.model):
            return self.model
        return f"{self.model} → {answered_by}"

    @property
    def facts(self) -> tuple[str, str, str]:
        """USD, milliseconds and tokens, for people; empty for an error."""
        if self.completion is None:
            return "", "", ""
        cost, tokens = self.usage.cost, self.usage.total_tokens
        latency = self.completion.call.latency_ms
        return (
            "cost unknown" if cost is None else usd(cost),
            "" if latency is None else f"{latency:,.0f} ms",
            "" if tokens is None else f"{tokens:,} tokens",
        )

    def to_dict(self) -> dict[str, object]:
        """The answer as plain JSON, with the cost as text of all its digits."""
        latency = None if self.completion is None else self.completion.call.latency_ms
        return {
            "model": self.model,
            "answered_by": None if self.completion is None else self.completion.model,
            "text": None if self.error is not None else self.text,
            "error": None if self.error is None else str(self.error),
            "cost_usd": None if self.usage.cost is None else f"{self.usage.cost:f}",
            "latency_ms": latency,
            "total_tokens": self.usage.total_tokens,
        }


@app.command()
def compare(
    prompt: Prompt,
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more models' names; 'router' chooses one.", autocompletion=complete_model
        ),
    ],
    *,
    system: Annotated[str | None, typer.Option(help="What the models are told first.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to generate at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    store: Store = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask several models the same prompt at once, and show their answers side by side with USD and ms."""
    with open_client(base_url, store, as_json=as_json) as client:
        if len(models) < 2:
            raise ConfigurationError("models: give at least two to compare")
        if not all(name.strip() for name in models):  # before the others are paid for
            raise ConfigurationError("models: one of the names is empty")
        params: ChatParams = {"max_tokens": max_tokens, "temperature": temperature}
        answers = ask_all(client, models, messages_of(read_prompt(prompt), system), params)
    if as_json:
        print_json([answer.to_dict() for answer in answers])
    elif is_on_a_terminal():
        _print_side_by_side(answers)
    else:
        print_answer("\n".join(map(_section, answers)))
    if any(answer.error is not None for answer in answers):
        raise typer.Exit(FAILED)


def ask_all(
    client: Lunar, models: Sequence[str], messages: list[dict[str, object]], params: ChatParams
) -> list[ModelAnswer]:
    """Ask all models at once. Returns their answers in order. Raises ConfigurationError for wrong parameters."""

    def ask(model: str) -> ModelAnswer:
        # Not streamed: a stream's cost may be unknown.
        try:
            answer = client.chat.completions.create(model=model, messages=messages, **params)
        except ConfigurationError:
            raise
        except LunarError as error:
            return ModelAnswer(model, error=error)
        return ModelAnswer(model, answer)

    with ThreadPoolExecutor(min(len(models), MOST_AT_ONCE)) as pool:
        futures = [pool.submit(ask, model) for model in models]
        try:
            return [future.result() for future in futures]
        except BaseException:  # interrupted, say: closing ends what the other threads wait for
            pool.shutdown(wait=False, cancel_futures=True)
            client.close()
            raise


def _print_side_by_side(answers: Sequence[ModelAnswer]) -> None:
    console = Console()
    if console.width < len(answers) * (NARROWEST + 2):
        console.print(Text("\n".join(map(_section, answers)).translate(STEERING)), end="")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for answer in answers:
        table.add_column(Text(answer.name.translate(STEERING)), ratio=1, overflow="fold")
    table.add_row(*(Text(answer.text.translate(STEERING)) for answer in answers))
    table.add_row()
    for line in zip(*(answer.facts for answer in answers), strict=True):
        table.add_row(*(Text(fact, style="dim") for fact in line))
    console.print(table)


def _section(answer: ModelAnswer) -> str:
    """One answer as text, for pipes and narrow terminals."""
    facts = " · ".join([answer.name, *filter(None, answer.facts)])
    return f"# {facts}\n{answer.text}\n"
