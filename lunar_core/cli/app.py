"""The command's app: its options, its exit codes, and how a failure is shown. Other files add the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from lunar_core import ConfigurationError, Ledger, Lunar, LunarError, __version__
from lunar_core.cli.exit_codes import FAILED, INTERRUPTED, MISUSED
from lunar_core.cli.printing import print_error

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Lunar: ask models, and see how they are chosen and what they cost.",
    epilog="The key comes from LUNAR_API_KEY (or a token from LUNAR_JWT). Exit codes: 0 answered, "
    "1 the service failed, 2 used wrongly, 3 stopped by a budget, 130 interrupted.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for other programs.")]
BaseUrl = Annotated[
    str | None, typer.Option(help="The service. Default: LUNAR_BASE_URL, else the hosted one.")
]


def _check_store(store: str | None) -> str | None:
    """An empty name, as of a variable that is not set, would record nothing without a word."""
    if store is not None and not store.strip():
        raise typer.BadParameter("is empty")
    return store


Store = Annotated[
    str | None,
    typer.Option(
        envvar="LUNAR_LEDGER",
        help="The ledger: a file of SQLite, or a URL of PostgreSQL.",
        callback=_check_store,
    ),
]


def _version(*, is_requested: bool) -> None:
    if is_requested:
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


@contextmanager
def report_failures(*, as_json: bool = False) -> Iterator[None]:
    """A context that prints a failure to stderr and sets the exit code."""
    try:
        yield
    except LunarError as error:
        print_error(error, as_json=as_json)
        raise typer.Exit(MISUSED if isinstance(error, ConfigurationError) else FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def open_client(base_url: str | None, store: str | None, *, as_json: bool) -> Iterator[Lunar]:
    """A client for one command. Its calls are recorded if ``store`` names a ledger."""
    with (
        report_failures(as_json=as_json),
        open_ledger(store) as ledger,
        Lunar(base_url=base_url, observers=() if ledger is None else (ledger,)) as client,
    ):
        yield client


@contextmanager
def open_ledger(store: str | None) -> Iterator[Ledger | None]:
    """The ledger in ``store``, which is made if it does not exist; None without a store."""
    if not store:
        yield None
        return
    with open_named(store) as ledger:
        yield ledger


def open_named(store: str, *, read_only: bool = False) -> Ledger:
    """The ledger that ``--store`` names. Raises ConfigurationError, which names the option."""
    try:
        return Ledger.open(store, read_only=read_only)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace("where: ", "--store: ", 1)) from None
