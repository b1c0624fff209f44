"""The reference's own examples parse, and its SDK section's code runs (see tests/samples/README.md)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from lunar_core import ChatCompletion, Completion
from lunar_core.errors import class_for_status
from lunar_core.wire import answers, catalogue, error_responses, events
from lunar_core.wire.deltas import Assembly
from lunar_core.wire.sse import SSEDecoder

SAMPLES = Path(__file__).parents[1] / "samples"
SDK = SAMPLES / "sdk.md"
READERS = {
    "chat.completions": answers.read_chat,
    "completions": answers.read_text,
    "router": answers.read_routed,
    "router.decide": answers.read_decision,
    "router.profiles": catalogue.read_profiles,
    "providers": catalogue.read_providers,
    "models": catalogue.read_models,
}


def named(*patterns):
    found = sorted(path for pattern in patterns for path in SAMPLES.glob(pattern))
    assert found, patterns
    return pytest.mark.parametrize(
        "path", found, ids=[f"{path.parent.name}-{path.name}" for path in found]
    )


def said(value):
    """A value as JSON, without what the service left out."""
    if isinstance(value, list):
        return [said(item) for item in value]
    return value.model_dump(mode="json", exclude_unset=True)


@named("*/200*.json")
def test_an_answer_parses_and_nothing_of_it_is_lost(path):
    value = json.loads(path.read_bytes())
    if path.parent.name in ("providers", "models") and isinstance(value, dict):
        value = next(items for items in value.values() if isinstance(items, list))
    assert said(READERS[path.parent.name](path.read_bytes())) == value


REASONS = {
    "400.observed": "Models without profiles: o3-mini; there are profiles of gpt-4o, gpt-4o-mini "
    "(MISSING_PROFILES)",
    "401.observed": "Authentication required. Provide either 'x-api-key' header or "
    "'Authorization: Bearer <token>'",
    "403.observed": "Unauthorized",
    "404": "All providers failed for model 'x': Model not found",
    "422.observed": "body.messages: Field required",
    "429": "Rate limit exceeded",
    "429.observed": "Too Many Requests",
    "502.observed": "All providers failed for model 'x': Model not found",
}


@named("errors/*.json")
def test_an_error_is_typed_and_says_what_the_service_said(path):
    status, body = int(path.name[:3]), path.read_bytes()
    error = error_responses.make_status_error(status, httpx.Headers(), body, now=0.0)
    assert type(error) is class_for_status(status)
    assert error.body == json.loads(body)
    assert str(error) == f"{status}: {REASONS[path.stem]}"
    assert error.retry_after == (30 if path.stem == "429" else None)


@named("*/*.sse")
def test_a_stream_amounts_to_the_answer_beside_it(path):
    text = path.parent.name == "completions"
    kind, read = (Completion, events.text_chunk) if text else (ChatCompletion, events.chat_chunk)
    decoder, assembly = SSEDecoder(), Assembly(kind)
    for payload in decoder.feed(path.read_bytes()):
        assembly.feed(payload)
        assert read(payload).choices
    assert decoder.done
    answer = kind.model_validate(assembly.value())
    beside = path.with_name("200.json").read_bytes()
    assert answer.choices == READERS[path.parent.name](beside).choices
    if "observed" not in path.name:
        assert answer.usage == READERS[path.parent.name](beside).usage


PROGRAMS = re.findall(r"## (.+?)\n\n```python\n(.+?)```", SDK.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", dict(PROGRAMS).values(), ids=dict(PROGRAMS))
def test_the_references_code_runs_with_only_the_import_changed(code, lunar_sandbox):
    assert code.count("from lunar import Lunar\n") == 1
    done = subprocess.run(
        [sys.executable, "-I", "-c", code.replace("from lunar import", "from lunar_core import")],
        env={"LUNAR_BASE_URL": lunar_sandbox.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert {record["status"] for record in lunar_sandbox.requests()} == {200}
