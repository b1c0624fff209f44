"""What a browser and a terminal show of the sandbox."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from lunar_core.sandbox.app import make_app
from lunar_core.sandbox.dialects import DIALECTS
from lunar_core.sandbox.faults import FAULTS
from lunar_core.sandbox.router import TableRouter
from tests.sandbox.raw import HELLO, KEY, Reply, call, chat, connect, get, post, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lunar_core.sandbox import Sandbox


@pytest.fixture(params=["documented", "observed"])
def either(request: pytest.FixtureRequest, lunar_sandbox_factory: Any) -> Sandbox:
    return lunar_sandbox_factory(dialect=request.param)


# Pages


def test_health_is_what_the_backend_says(either: Sandbox) -> None:
    reply = get(either, "/health", {})
    assert (reply.status, reply.json()) == (200, {"status": "ok"})
    assert either.requests() == []


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(either: Sandbox, path: str) -> None:
    reply = get(either, path, {})
    page = reply.body.decode()
    assert reply.headers["content-type"].startswith("text/html")
    assert reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert not re.search(r"https?:|//|<script|src=|@import|url\(", page)


def test_the_first_page_says_what_this_is_and_links_work(either: Sandbox) -> None:
    page = get(either, "/", {}).body.decode()
    assert "answers are made up" in page
    assert either.dialect in page
    links = re.findall(r'href="([^"]+)"', page)
    assert links
    for link in links:
        assert get(either, link, {}).status == 200


def test_the_docs_name_every_endpoint_and_fault(either: Sandbox) -> None:
    page = get(either, "/docs", {}).body.decode()
    for path in get(either, "/openapi.json", {}).json()["paths"]:
        assert path in page
    for fault in FAULTS:
        assert f"<code>{fault}</code>" in page


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (text for name, text in value.items() if name == "$ref" and text)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_description_is_complete_and_refers_to_what_is_there(either: Sandbox) -> None:
    description = get(either, "/openapi.json", {}).json()
    schemas = description["components"]["schemas"]
    refs = set(references(description))
    assert refs
    assert {ref.removeprefix("#/components/schemas/") for ref in refs} <= set(schemas)
    app: Any = make_app(DIALECTS[either.dialect], TableRouter())
    served = {route.path for route in app._app.routes if route.path.startswith("/v1/")}
    absent = set() if either.dialect == "documented" else {"/v1/models"}
    assert set(description["paths"]) == served - absent


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("documented", {"model", "messages", "temperature", "tools"}),
        ("observed", {"model", "messages", "stream"}),
    ],
)
def test_the_description_is_the_dialects(
    lunar_sandbox_factory: Any, dialect: str, fields: set[str]
) -> None:
    description = get(lunar_sandbox_factory(dialect=dialect), "/openapi.json", {}).json()
    post = description["paths"]["/v1/chat/completions"]["post"]
    name = post["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert fields <= set(description["components"]["schemas"][name]["properties"])
    if dialect == "observed":
        assert fields == set(description["components"]["schemas"][name]["properties"])


# The terminal


@contextmanager
def terminal(*options: str) -> Iterator[tuple[Any, list[str]]]:
    """Run the command; afterwards the list has the lines that it printed after its greeting."""
    lines: list[str] = []
    command = [sys.executable, "-m", "lunar_core.sandbox", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = json.loads(line)["url"] if "--json" in options else line.split()[3]
        yield Place(url), lines
        process.terminate()
        rest, _ = process.communicate(timeout=30)
        lines += [text for text in rest.splitlines() if not text.startswith("export ")]


class Place:
    """Where a command listens, in the form that the tests' HTTP takes."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])


def shown(lines: list[str]) -> list[list[str]]:
    """Take lines apart, and their milliseconds off."""
    return [re.sub(r"  \d+ ms", "", line).split("  ") for line in lines]


def test_each_request_is_a_line_with_what_it_came_to() -> None:
    with terminal() as (sandbox, lines):
        chat(sandbox)
        chat(sandbox, model="gpt-4o!503", stream=True)
        post(sandbox, "/v1/router", {"messages": HELLO, "stream": True})
        get(sandbox, "/v1/models")
        get(sandbox, "/v1/chat/completions/v1/models")
        get(sandbox, "/session/mine/health")
        get(sandbox, "/sandbox/requests")  # the sandbox's own: no line
    assert shown(lines) == [
        ["POST /v1/chat/completions", "gpt-4o-mini", "200", "4+7 tokens", "0.0000048 USD"],
        ["POST /v1/chat/completions", "gpt-4o!503", "503", "fault 503"],
        ["POST /v1/router", "gpt-4o", "200", "4+7 tokens", "0.00008 USD"],
        ["GET /v1/models", "200"],
        ["GET /v1/chat/completions/v1/models", "404"],
        ["GET /health", "200"],
    ]
    assert all(re.search(r"  \d+ ms", line) for line in lines)


def test_a_line_shows_neither_key_nor_prompt_nor_answer() -> None:
    secret = {"x-api-key": "pk_live_secret", "authorization": "Bearer secret.secret.secret"}
    messages = [{"role": "user", "content": "Say my password"}]
    with terminal() as (sandbox, lines):
        chat(sandbox, secret, messages=messages)
        call(sandbox, "GET", "/v1/models?key=secret", headers=secret)
    assert len(lines) == 2
    assert not re.search("secret|password|pk_", "\n".join(lines))


def test_a_line_is_one_line_whatever_a_client_sends() -> None:
    with terminal() as (sandbox, lines):
        chat(sandbox, model="x\x1b[2J\ngpt" + "y" * 500)
    ((_, model, status),) = shown(lines)
    assert (model[:8], status) == ("x?[2J?gp", "404")
    assert len(model) == 100


def test_a_connection_that_ends_without_an_answer_says_so() -> None:
    with terminal() as (sandbox, lines), connect(sandbox) as sock:
        body = {"model": "gpt-4o!hangup", "messages": HELLO}
        sock.sendall(request(sandbox, "POST", "/v1/chat/completions", body))
        assert sock.recv(100) == b""
    assert shown(lines) == [
        ["POST /v1/chat/completions", "gpt-4o!hangup", "no answer", "fault hangup"]
    ]


@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_it_can_be_quiet(option: str) -> None:
    with terminal(option) as (sandbox, lines):
        reply: Reply = chat(sandbox, KEY)
        assert reply.status == 200
    assert lines == []
