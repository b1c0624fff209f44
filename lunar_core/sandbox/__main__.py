"""``python -m lunar_core.sandbox``: the Lunar API on this machine, for development and tests."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lunar_core.sandbox.errors import seconds

if TYPE_CHECKING:
    from socket import socket

    from lunar_core.sandbox.dialects import Documented
    from lunar_core.sandbox.router import Router
    from lunar_core.sandbox.sources import Source


def main(
    arguments: list[str] | None = None, *, program: str = "python -m lunar_core.sandbox"
) -> None:
    """Serve until interrupted."""
    options = _parser(program).parse_args(arguments)
    try:
        from lunar_core.sandbox.app import make_app
        from lunar_core.sandbox.dialects import DIALECTS
        from lunar_core.sandbox.server import end_on_signals, serve
        from lunar_core.sandbox.terminal import show
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        sys.exit(
            f"The sandbox needs {package}: pip install '.[sandbox]' in a checkout "
            "(from an index that has it: pip install 'lunar-integrations[sandbox]')"
        )
    end_on_signals()
    with ExitStack() as started:
        router = _start_router(options.router, started)
        sock = _listen(options.port)
        dialect = DIALECTS[options.dialect]
        app = make_app(
            dialect,
            router,
            upstream=_make_upstream(options, dialect) if options.upstream else None,
            delay=options.delay,
            show=None if options.quiet or options.json else show,
        )
        port = sock.getsockname()[1]
        facts = {
            "url": f"http://127.0.0.1:{port}",
            "port": port,
            "pid": os.getpid(),
            "dialect": options.dialect,
            "router": router.name,
            "engine_version": router.version,
        }

        def announce() -> None:
            sys.stdout.write(f"{json.dumps(facts) if options.json else _sentence(facts)}\n")
            sys.stdout.flush()

        serve(app, sock, ready=announce, until_stdin_closes=options.until_stdin_closes)


def _start_router(name: str, started: ExitStack) -> Router:
    """The router by its name. What it starts ends with ``started``."""
    if name != "engine":
        from lunar_core.sandbox.router import TableRouter

        return TableRouter()
    from lunar_core.sandbox.engine import EngineError, running_engine

    try:
        return started.enter_context(running_engine())
    except EngineError as error:
        sys.exit(str(error))


def _listen(port: int) -> socket:
    from lunar_core.sandbox.server import listen

    try:
        return listen(port)
    except OSError as error:
        sys.exit(
            f"Port {port} on 127.0.0.1 cannot be opened: {error.strerror}."
            " --port 0 takes a free one."
        )


def _make_upstream(options: argparse.Namespace, dialect: Documented) -> Source:
    from lunar_core.sandbox.upstream import KEY_VARIABLE, Upstream

    return Upstream(
        options.upstream,
        key=os.environ.get(KEY_VARIABLE),
        model=options.upstream_model,
        empty_is_text=dialect.empty_is_text,
    )


def _sentence(facts: dict[str, object]) -> str:
    return (
        f"Lunar sandbox on {facts['url']} ({facts['dialect']} dialect, {facts['router']} router):"
        " for development and tests, answers are made up. Ctrl+C ends it.\n"
        f"export LUNAR_API_KEY=pk_any LUNAR_BASE_URL={facts['url']}"
    )


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="The Lunar API on 127.0.0.1, for development and tests. Use any key that"
        " begins with pk_. GET /sandbox/faults lists the failures it makes on demand.",
    )
    parser.add_argument("--port", type=_port, default=8787, help="0: a free one (default 8787)")
    parser.add_argument("--router", choices=("table", "engine"), default="table")
    parser.add_argument("--dialect", choices=("documented", "observed"), default="documented")
    parser.add_argument(
        "--delay", type=seconds, default=0.0, metavar="SECONDS", help="between streamed words"
    )
    parser.add_argument(
        "--upstream",
        type=_url,
        metavar="URL",
        help="an OpenAI-compatible server that generates the answers;"
        " its key is read from LUNAR_SANDBOX_UPSTREAM_KEY",
    )
    parser.add_argument(
        "--upstream-model", metavar="MODEL", help="ask the upstream for this model, always"
    )
    parser.add_argument("--quiet", action="store_true", help="no line for each request")
    parser.add_argument(
        "--json", action="store_true", help="say where it is as one line of JSON, and nothing more"
    )
    parser.add_argument(
        "--until-stdin-closes",
        action="store_true",
        help="end with the process that started it, however that ends",
    )
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65536:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return port


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text} does not begin with http:// or https://")
    return text


if __name__ == "__main__":
    main()
