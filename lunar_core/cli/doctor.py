"""``lunar-llm doctor``: checks the installation, the settings, and the way to the service."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import typer

from lunar_core import __version__
from lunar_core.cli.app import AsJson, BaseUrl, app, report_failures
from lunar_core.cli.exit_codes import FAILED
from lunar_core.cli.printing import print_answer, print_json
from lunar_core.client.checkup import Finding, check_service
from lunar_core.extras import install_command

EXTRAS = {
    "langchain": ("langchain-core",),
    "llama-index": ("llama-index-core",),
    "agents": ("langchain", "langgraph"),
    "sandbox": ("starlette", "uvicorn"),
    "engine": ("opentracy",),
    "prices": ("genai-prices",),
    "sql": ("SQLAlchemy",),
    "postgres": ("SQLAlchemy", "psycopg"),
    "report": ("Jinja2",),
    "cli": ("typer", "rich"),
    "otel": ("opentelemetry-api",),
    "dask": ("distributed",),
}
"""The packages of each extra, as in ``pyproject.toml``."""
DEPENDENCIES = ("httpx", "httpcore", "h11", "pydantic", "anyio", "certifi")

_MARKS = {"ok": "ok", "warning": "look", "failed": "FAILED", "skipped": "-"}


@app.command()
def doctor(*, as_json: AsJson = False, base_url: BaseUrl = None) -> None:
    """Check key, URL, proxy, DNS, TLS, the service's answer, the clock and what is installed. Nothing is billed."""
    with report_failures(as_json=as_json):
        findings = []
        for finding in _examine(base_url):
            findings.append(finding)
            if not as_json:
                print_answer(f"{_MARKS[finding.status]:8}{finding.subject:13}{finding.text}\n")
        if as_json:
            print_json([vars(finding) for finding in findings])
    if any(finding.status == "failed" for finding in findings):
        raise typer.Exit(FAILED)


def _examine(base_url: str | None) -> Iterator[Finding]:
    """All findings, those that need no network first."""
    system = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    needed = ", ".join(f"{name} {_find_version(name)}" for name in DEPENDENCIES)
    yield Finding("version", "ok", f"lunar-integrations {__version__}, {system}; {needed}")
    for extra, packages in EXTRAS.items():
        yield _check_extra(extra, packages)
    yield from check_service(base_url)


def _check_extra(extra: str, packages: tuple[str, ...]) -> Finding:
    versions = {name: _find_version(name) for name in packages}
    if None in versions.values():
        return Finding(extra, "skipped", f"not installed: {install_command(extra)}")
    return Finding(extra, "ok", ", ".join(f"{name} {number}" for name, number in versions.items()))


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
