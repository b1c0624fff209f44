"""The engine router: the vendor's own decisions, and nothing left behind.

These tests need the package ``opentracy``, a wheel of 100 MB that not every platform has.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lunar_core.sandbox import run
from tests.sandbox.raw import HELLO, get, post

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lunar_core.sandbox import Sandbox

SPEC = importlib.util.find_spec("opentracy")
if SPEC is None:  # Not importorskip: what it imports needs more than the engine does.
    pytest.skip("the vendor's engine (opentracy) is not installed", allow_module_level=True)

pytestmark = pytest.mark.engine


@pytest.fixture
def engine(lunar_sandbox_factory: Any) -> Sandbox:
    return lunar_sandbox_factory(router="engine")


def decide(sandbox: Sandbox, prompt: str, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    reply = post(sandbox, "/v1/router", {"messages": messages, "execute": False, **body})
    assert reply.status == 200, reply.body
    assert reply.headers["x-sandbox-router"] == "engine"
    return dict(reply.json()["routing"])


def test_the_engine_says_that_it_decided(engine: Sandbox) -> None:
    about = get(engine, "/sandbox", {}).json()
    assert about["router"] == "engine"
    assert about["engine_version"][0].isdigit()
    routing = decide(engine, "What is the capital of France?")
    assert routing["reasoning"].startswith("Cluster: ")
    assert 0 <= routing["cluster_id"] < 100
    assert 0 <= routing["expected_error"] <= 1


PROMPTS = [
    "Write a haiku about the sea",
    "Prove that there are infinitely many primes",
    "A 55-year-old patient has chest pain. What is the differential diagnosis?",
    "Explain the tax treatment of stock options",
    "What is the capital of France?",
]


def test_prompts_go_to_different_models_and_the_weight_moves_them(engine: Sandbox) -> None:
    profiles = get(engine, "/v1/router/profiles").json()["profiles"]
    free = [decide(engine, prompt)["selected_model"] for prompt in PROMPTS]
    dear = [decide(engine, prompt, cost_weight=100.0)["selected_model"] for prompt in PROMPTS]
    assert len(set(free)) >= 2
    assert free != dear
    assert set(free) | set(dear) <= set(profiles)


def test_of_the_tied_the_first_of_the_request_wins_always(lunar_sandbox_factory: Any) -> None:
    engine = lunar_sandbox_factory(router="engine", dialect="observed")  # It tells all scores.
    ties = 0
    for prompt in PROMPTS:
        for order in (1, -1):
            models = get(engine, "/v1/router/profiles").json()["profiles"][::order]
            routes = [decide(engine, prompt, models=models) for _ in range(8)]
            (selected,) = {route["selected_model"] for route in routes}
            scores = routes[0]["all_scores"]
            tied = [name for name in models if scores[name] == min(scores.values())]
            assert selected == tied[0]
            assert routes[0]["expected_error"] == scores[selected]
            (marked,) = [n for n in routes[0]["reasoning"].splitlines() if "<- selected" in n]
            assert marked.startswith(f"  {selected}: ")
            ties += len(tied) > 1
    assert ties


def test_without_a_weight_the_score_is_the_error(engine: Sandbox) -> None:
    for prompt in PROMPTS:
        routing = decide(engine, prompt)
        assert routing["cost_adjusted_score"] == pytest.approx(routing["expected_error"], abs=1e-6)


def test_candidates_are_kept_to(engine: Sandbox) -> None:
    models = ["gpt-3.5-turbo", "gpt-4-turbo"]
    assert decide(engine, PROMPTS[0], models=models)["selected_model"] in models


def test_an_empty_prompt_is_routed_too(engine: Sandbox) -> None:
    assert decide(engine, "")["selected_model"]


def test_the_answer_comes_from_the_chosen_model(engine: Sandbox) -> None:
    answer = post(engine, "/v1/router", {"messages": HELLO}).json()
    assert answer["model"] == answer["routing"]["selected_model"]
    assert answer["usage"]["total_cost_usd"] > 0


def engines(parent: int) -> list[int]:
    """List the engine processes that a sandbox started."""
    listed = subprocess.run(
        ["/bin/ps", "-ewwo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    return [int(pid) for pid, ppid, args in rows if ppid == str(parent) and "opentracy" in args]


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Callable[[], bool]]:
    """Watch a process; call what this gives to learn whether it ends within half a minute."""
    handle = os.pidfd_open(pid)
    try:
        yield lambda: bool(select.select([handle], [], [], 30)[0])
    finally:
        os.close(handle)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux whether a process has ended")
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_no_engine_outlives_its_sandbox(ending: str) -> None:
    with run(router="engine") as sandbox:
        (engine,) = engines(sandbox.pid)
        with watched(engine) as gone:
            sandbox.process.send_signal(getattr(signal, ending))
            sandbox.process.wait(30)
            assert gone()


def files(folder: Path) -> dict[Path, float]:
    return {
        path: path.stat().st_mtime for path in folder.rglob("*") if "__pycache__" not in str(path)
    }


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux whether a process has ended")
def test_nothing_is_written_into_the_package_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert SPEC is not None
    assert SPEC.origin is not None
    package = Path(SPEC.origin).parent
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = files(package)
    with contextlib.ExitStack() as after:
        with run(router="engine") as sandbox:
            decide(sandbox, "Hello")
            assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
            (engine,) = engines(sandbox.pid)
            gone = after.enter_context(watched(engine))
        assert gone()
    assert files(package) == before


def test_a_dead_engine_is_an_error_and_never_the_table() -> None:
    with run(router="engine") as sandbox:
        (engine,) = engines(sandbox.pid)
        os.kill(engine, signal.SIGKILL)
        reply = post(sandbox, "/v1/router", {"messages": HELLO})
        assert reply.status == 503
        assert "engine" in reply.json()["detail"]
