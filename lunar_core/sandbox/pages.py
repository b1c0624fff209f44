"""Pages for a browser, and the API's description as OpenAPI: ``/``, ``/docs``, ``/openapi.json``.

Everything is written here and nothing is loaded from elsewhere: no script, no font, no CDN.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic.json_schema import models_json_schema
from starlette.responses import HTMLResponse, JSONResponse, Response

from lunar_core.sandbox.faults import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.requests import Request

    from lunar_core.sandbox.dialects import Documented

Json = dict[str, Any]


class Operation(NamedTuple):
    """One endpoint of the contract."""

    method: str
    path: str
    summary: str
    body: str | None = None
    """Which of the dialect's bodies it takes."""
    wants_key: bool = True


OPERATIONS = (
    Operation("post", "/v1/chat/completions", "Answer messages, whole or streamed", "chat"),
    Operation("post", "/v1/completions", "Continue a text, whole or streamed", "text"),
    Operation("post", "/v1/router", "Choose a model, and let it answer", "router"),
    Operation("get", "/v1/router/profiles", "List the models that the router chooses among"),
    Operation("get", "/v1/providers", "List the providers of ?model="),
    Operation("get", "/v1/models", "List the models"),
    Operation("get", "/v1/pricing/models", "List the prices of all models", wants_key=False),
    Operation("get", "/v1/pricing/{provider}/{model}", "Say one price", wants_key=False),
)
_KEYS: list[Json] = [{"apiKey": []}, {"jwt": []}]
_OWN = ("/docs", "/openapi.json", "/health", "/sandbox", "/sandbox/faults", "/sandbox/requests")
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;background:#f4f4f4;padding:1rem}"
    "td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
)
_SAFE = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}


def describe(dialect: Documented) -> Json:
    """Describe the endpoints of a dialect as OpenAPI 3.1."""
    _, definitions = models_json_schema(
        [(body, "validation") for body in dialect.bodies.values()],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        if operation.path != "/v1/models" or dialect.has_models:
            paths.setdefault(operation.path, {})[operation.method] = _operation(dialect, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Lunar API, {dialect.name} dialect, served by the sandbox",
            "version": "1",
            "description": "For development and tests: answers are made up.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                "jwt": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(dialect: Documented, operation: Operation) -> Json:
    entry: Json = {
        "summary": operation.summary,
        "security": _KEYS if operation.wants_key else [],
        "responses": {
            "200": {"description": "The answer; a stream of server-sent events if asked for"},
            "default": {"description": "An error: detail says what is wrong"},
        },
    }
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters = [_parameter(name, "path") for name in names]
    if operation.path == "/v1/providers":
        parameters.append(_parameter("model", "query"))
    if parameters:
        entry["parameters"] = parameters
    if operation.body:
        schema = {"$ref": f"#/components/schemas/{dialect.bodies[operation.body].__name__}"}
        content = {"application/json": {"schema": schema}}
        entry["requestBody"] = {"required": True, "content": content}
    return entry


def _parameter(name: str, place: str) -> Json:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


class Pages:
    """What a browser finds. ``dialect``: whose endpoints are listed. ``facts``: what the sandbox tells about itself."""

    def __init__(self, dialect: Documented, facts: Mapping[str, Any]) -> None:
        self._description = describe(dialect)
        self._facts = facts

    async def home(self, _request: Request) -> Response:
        """``GET /``: what this is, and where to go."""
        rows = [(name, str(value)) for name, value in self._facts.items()]
        links = "".join(f'<li><a href="{path}">{path}</a></li>' for path in _OWN)
        return _page(
            "Lunar sandbox",
            "<p>The Lunar API on this machine, for development and tests: answers are made up. "
            "Any key that begins with <code>pk_</code> will do.</p>"
            f"{_table(rows)}<ul>{links}</ul>",
        )

    async def health(self, _request: Request) -> Response:
        """``GET /health``, as the backend answers it."""
        return JSONResponse({"status": "ok"})

    async def openapi(self, _request: Request) -> Response:
        """``GET /openapi.json``."""
        return JSONResponse(self._description)

    async def docs(self, _request: Request) -> Response:
        """``GET /docs``: the same for people, and the faults."""
        parts = ["<p><a href='/openapi.json'>openapi.json</a></p>"]
        for path, methods in self._description["paths"].items():
            for method, operation in methods.items():
                parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2>")
                parts.append(f"<p>{escape(operation['summary'])}</p>")
                if body := operation.get("requestBody"):
                    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
                    schema = self._description["components"]["schemas"][name]
                    text = escape(json.dumps(schema, indent=2))
                    parts.append(f"<details><summary>{name}</summary><pre>{text}</pre></details>")
        parts.append(
            "<h2>Faults</h2><p>By the header <code>x-sandbox-fault</code>, or after an exclamation"
            " mark in a model's name: <code>gpt-4o!503*2</code>.</p>"
        )
        return _page("Lunar sandbox: its API", "".join(parts) + _table(FAULTS.items()))


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>"
        for name, text in rows
    )
    return f"<table>{cells}</table>"


def _page(title: str, body: str) -> Response:
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{title}</h1>{body}</body>'
    return HTMLResponse(f"{page}</html>", headers=_SAFE)
