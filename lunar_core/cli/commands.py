"""``lunar-llm models``, ``route``, ``chat`` and ``sandbox``: the API from a terminal.

Answers go to stdout, everything about them to stderr, so that pipes carry answers alone. The key
is read from the environment and nowhere else: arguments are seen by every process of the machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lunar_core import (
    ChatCompletion,
    Completion,
    ConfigurationError,
    Lunar,
    LunarError,
    RoutingDecision,
    Usage,
    __version__,
)
from lunar_core.wire.params import ChatParams

FAILED, MISUSED, INTERRUPTED = 1, 2, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Lunar: ask models, and see how they are chosen and what they cost.",
    epilog="The key comes from LUNAR_API_KEY (or a token from LUNAR_JWT). Exit codes: 0 answered, "
    "1 the service failed, 2 used wrongly, 130 interrupted.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="The service. Default: LUNAR_BASE_URL, else the hosted one.")
]
Prompt = Annotated[str, typer.Argument(help="What to ask; - reads it from stdin.")]
Candidates = Annotated[
    list[str] | None,
    typer.Option("--candidate", help="A model the router may choose; give it at least twice."),
]
CostWeight = Annotated[
    float | None, typer.Option(help="0 ignores cost (the default); higher prefers cheaper models.")
]


def _version(wanted: bool) -> None:  # noqa: FBT001  # typer hands it over so
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def lunar(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before the command."""


@app.command()
def models(*, as_json: AsJson = False, base_url: BaseUrl = None) -> None:
    """List the models, with their prices where the service says them."""
    with _client(base_url, as_json=as_json) as client:
        found = client.models.list()
    if as_json:
        _print_json([model.model_dump(mode="json", exclude_none=True) for model in found])
        return
    _print_table(
        ("model", "owner", "USD per 1M tokens in", "cached", "out"),
        [
            (
                model.id,
                model.owned_by or "",
                _price(model.input_per_million),
                _price(model.cache_input_per_million),
                _price(model.output_per_million),
            )
            for model in found
        ],
    )


@app.command()
def route(
    prompt: Prompt,
    *,
    candidate: Candidates = None,
    cost_weight: CostWeight = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Say which model the router would choose, and why. Nothing is generated."""
    with _client(base_url, as_json=as_json) as client:
        decision = client.router.decide(
            messages=_messages(prompt), models=candidate or None, cost_weight=cost_weight
        )
    if as_json:
        _print_json(decision.model_dump(mode="json", exclude_none=True))
        return
    _print_answer(decision.selected_model + "\n")
    _print_note(_why(decision))


@app.command()
def chat(
    prompt: Prompt,
    *,
    model: Annotated[str, typer.Option(help="A model's name; 'router' chooses one.")] = "router",
    system: Annotated[str | None, typer.Option(help="What the model is told first.")] = None,
    candidate: Candidates = None,
    cost_weight: CostWeight = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to generate at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    as_json: AsJson = False,
    base_url: BaseUrl = None,
) -> None:
    """Ask a model; its words are shown as they come, and then what they cost."""
    with _client(base_url, as_json=as_json) as client:
        asked: ChatParams = {
            "models": candidate or None,
            "cost_weight": cost_weight,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        create, messages = client.chat.completions.create, _messages(prompt, system)
        if as_json:
            answer = create(model=model, messages=messages, **asked)
            _print_json(answer.model_dump(mode="json", exclude_none=True))
            return
        with create(model=model, messages=messages, stream=True, **asked) as stream:
            try:
                for chunk in stream:
                    _print_answer(chunk.choices[0].delta.content or "")
            finally:
                _print_answer("\n")
            _print_note(_summary(stream.get_final_completion()))


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def sandbox(context: typer.Context) -> None:
    """Serve the API on this machine, without a key and without a bill (--help: its options)."""
    # By its name: what is ours stands on no sandbox, and this only starts one.
    import_module("lunar_core.sandbox.__main__").main(context.args, program="lunar-llm sandbox")


# What goes in


@contextmanager
def _client(base_url: str | None, *, as_json: bool) -> Iterator[Lunar]:
    """A client for one command; whatever fails is told on stderr, and by the exit code."""
    try:
        with Lunar(base_url=base_url) as client:
            yield client
    except LunarError as error:
        _print_error(error, as_json=as_json)
        raise typer.Exit(MISUSED if isinstance(error, ConfigurationError) else FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _messages(prompt: str, system: str | None = None) -> list[dict[str, object]]:
    text = sys.stdin.read() if prompt == "-" else prompt
    told: list[dict[str, object]] = (
        [] if system is None else [{"role": "system", "content": system}]
    )
    return [*told, {"role": "user", "content": text}]


# What comes out

# A model's words may hold sequences that move the cursor or rename the window of a terminal.
_UNSEEN = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def _on_a_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()  # None: it was closed by `>&-`


def _print_answer(text: str) -> None:
    if _on_a_terminal():
        text = text.translate(_UNSEEN)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding), nl=False)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for people, without its empty columns; tab-separated lines for other programs."""
    if not _on_a_terminal():
        typer.echo("\n".join("\t".join(row) for row in rows))
        return
    table = Table(box=None, pad_edge=False)
    told = [number for number in range(len(head)) if any(row[number] for row in rows)]
    for number in told:
        table.add_column(head[number], justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[number].translate(_UNSEEN)) for number in told))
    Console().print(table)


def _print_note(text: str) -> None:
    Console(stderr=True).print(Text(text.translate(_UNSEEN), style="dim"), soft_wrap=True)


def _print_error(error: LunarError, *, as_json: bool) -> None:
    if as_json:
        told = {
            "type": type(error).__name__,
            "message": str(error),
            "status_code": error.status_code,
            "request_id": error.request_id,
        }
        typer.echo(json.dumps({"error": told}), err=True)
        return
    text = Text("Error: ", style="bold red").append(str(error).translate(_UNSEEN), style="not bold")
    Console(stderr=True).print(text, soft_wrap=True)


def _price(usd: float | None) -> str:
    return "" if usd is None else f"{usd:g}"


def _summary(answer: ChatCompletion | Completion) -> str:
    """One line on an answer: who gave it, how long it is, what it cost, how long it took."""
    usage = answer.usage or Usage()
    facts = [answer.model or "model unknown"]
    if usage.total_tokens is not None:
        facts.append(f"{usage.total_tokens:,} tokens")
    facts.append("cost unknown" if usage.cost is None else f"${usage.cost:f}")
    if answer.call.latency_ms is not None:
        facts.append(f"{answer.call.latency_ms / 1000:.1f} s")
    if len(answer.call.attempts) > 1:
        facts.append(f"{len(answer.call.attempts)} attempts")
    return " · ".join(facts)


def _why(decision: RoutingDecision) -> str:
    """What the router said for its choice, a fact a line."""
    facts = {
        "provider": decision.selected_provider or None,
        "expected error": decision.expected_error,
        "cost-adjusted score": decision.cost_adjusted_score,
        "cluster": decision.cluster_id,
    }
    lines = [f"{name}: {fact}" for name, fact in facts.items() if fact is not None]
    return "\n".join([*lines, *([decision.reasoning] if decision.reasoning else [])])
