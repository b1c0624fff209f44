"""Each sentence of SECURITY.md names the tests that hold it, and they are there."""

import inspect
import re
from pathlib import Path

import pytest

import lunar_core
from lunar_core import AsyncLunar, Lunar
from lunar_core.sandbox import run
from lunar_core.sandbox.server import listen

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
# How to report, and what this page is: no claims about the code.
PROMISES = PAGE.partition("## The key")[2]
LINES = [line for line in PROMISES.splitlines() if line and not line.startswith("#")]
NAMED = [name for line in LINES for name in re.findall(r"[\w/]+\.py::\w+", line)]


def test_every_sentence_names_its_tests():
    assert len(LINES) > 40
    for line in LINES:
        sentence, mark, tests = line.partition(" <!-- ")
        assert re.fullmatch(r"[A-Z`].+[\w`]\.", sentence), line
        assert len(re.findall(r"\.(?= [A-Z])", sentence)) == 0, f"two sentences: {line}"
        assert mark, f"no test: {sentence}"
        assert re.fullmatch(r"([\w/]+\.py::test_\w+ )+-->", tests), tests


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_each_test_that_it_names_is_there(name):
    path, _, test = name.partition("::")
    source = (TESTS / path).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE)


def test_no_setting_turns_verification_off():
    for kind in (Lunar, AsyncLunar):
        settings = inspect.signature(kind).parameters
        assert not [name for name in settings if re.search(r"verif|ssl|tls|cert|insecure", name)]


def test_the_core_logs_of_calls_in_one_place_and_of_money_in_its_room():
    root = Path(lunar_core.__file__).parent
    sources = [path for path in root.rglob("*.py") if root / "sandbox" not in path.parents]
    logging = [p for p in sources if re.search(r"\blogger\.\w+\(", p.read_text(encoding="utf-8"))]
    rooms = {path.relative_to(root).as_posix() for path in logging}
    assert {room for room in rooms if not room.startswith("cost/")} == {"client/logs.py"}


def test_the_sandbox_listens_on_loopback_alone(lunar_sandbox):
    with listen(0) as opened:
        assert opened.getsockname()[0] == "127.0.0.1"
    assert lunar_sandbox.url.startswith("http://127.0.0.1:")
    assert "host" not in inspect.signature(run).parameters
