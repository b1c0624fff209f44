"""What a caller may import, and how both clients are called: changed on purpose or not at all."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
import typing

import pytest

import lunar_core
from lunar_core import AsyncLunar, AsyncStream, Lunar, Stream, types

NAMES = """
__version__ AnswerFailedError APIConnectionError APIResponseValidationError APIStatusError
APIStreamError APITimeoutError AsyncLunar AsyncStream AsyncTransport Attempt AuthenticationError BadRequestError
BREAK_TIES Budget BudgetExceededError BudgetState CallInfo CallStart ChatCompletion ChatCompletionChunk
Completion CompletionChunk ConfigurationError ConflictError context_window current_tags Entry
InternalServerError Ledger LedgerError Limits Lunar LunarCostWarning LunarError Model NotFoundError Observer
observing Outcome OutputTruncatedError PermissionDeniedError Prices Profiles Provider RateLimitError Report
ResponseTooLargeError RoutedCompletion RoutingDecision Savings Stream tags Timeout ToolChoiceIgnoredError
Totals Transport UnprocessableEntityError UpstreamFailure Usage
"""
RESOURCES = {
    "chat.completions": {"create"},
    "completions": {"create"},
    "router": {"create", "decide", "profiles"},
    "models": {"list", "prices"},
    "providers": {"list"},
}


def test_the_public_names_are_these():
    assert set(lunar_core.__all__) == set(NAMES.split())


def test_each_of_them_can_be_imported():
    for name in lunar_core.__all__:
        assert getattr(importlib.import_module("lunar_core"), name) is not None


def test_a_star_brings_them_all_in_a_new_interpreter():
    program = (
        "from lunar_core import *\nimport lunar_core\n"
        "print(all(name in globals() for name in lunar_core.__all__))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "True\n"


def test_a_name_that_is_none_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Lunr'"):
        getattr(lunar_core, "Lunr")  # noqa: B009  # as a statement it would do nothing


def test_everything_public_in_the_answers_room_can_be_imported_from_the_top():
    completions = importlib.import_module(f"{types.__name__}.completions")
    returned = {
        name
        for name, kind in vars(completions).items()
        if inspect.isclass(kind) and issubclass(kind, completions.Answer)
    }
    assert returned - {"Answer"} <= set(lunar_core.__all__)


def test_every_module_of_the_core_can_be_imported_alone():
    modules = [
        module.name
        for room in ("client", "cost", "types", "wire")
        for module in pkgutil.walk_packages(
            importlib.import_module(f"lunar_core.{room}").__path__, f"lunar_core.{room}."
        )
    ]
    assert "lunar_core.wire.sse" in modules
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    subprocess.run(
        [sys.executable, "-I", "-c", program, *reversed(modules)], check=True, timeout=60
    )


# Both clients alike


def methods(kind):
    """The signature of each public method of a class."""
    return {
        name: parameters(method)
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


def parameters(function):
    return [
        (p.name, p.kind, p.default if isinstance(p.default, (int, str)) else None)
        for p in inspect.signature(function).parameters.values()
    ]


def resource(client, path):
    for name in path.split("."):
        client = getattr(client, name)
    return type(client)


@pytest.fixture
def clients(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_5d1c0e77")
    return Lunar(), AsyncLunar()


@pytest.mark.parametrize(("path", "names"), RESOURCES.items(), ids=RESOURCES)
def test_each_endpoint_takes_the_same_from_both(path, names, clients):
    sync, asynchronous = (methods(resource(client, path)) for client in clients)
    assert sync.keys() - {"__init__"} == names
    assert sync == asynchronous


@pytest.mark.parametrize(("sync", "asynchronous"), [(Lunar, AsyncLunar), (Stream, AsyncStream)])
def test_so_do_the_clients_and_their_streams(sync, asynchronous):
    ours, theirs = methods(sync), methods(asynchronous)
    assert ours["close"] == theirs.pop("aclose")
    assert ours == theirs


def test_the_key_is_the_only_argument_that_goes_without_its_name():
    _self, api_key, *others = inspect.signature(Lunar.__init__).parameters.values()
    assert (api_key.name, api_key.default) == ("api_key", None)
    assert {p.kind for p in others} == {inspect.Parameter.KEYWORD_ONLY}
    assert {p.name for p in others} >= {
        "jwt",
        "base_url",
        "timeout",
        "max_retries",
        "total_timeout",
        "max_connections",
        "fallbacks",
        "default_headers",
        "http_client",
        "observers",
        "allow_http",
    }


def test_the_types_of_every_public_method_can_be_had_at_run_time():
    exported = [getattr(lunar_core, name) for name in lunar_core.__all__]
    for value in filter(inspect.isclass, exported):
        for name, method in inspect.getmembers(value, inspect.isfunction):
            if method.__module__.startswith("lunar_core") and not name.startswith("_"):
                assert typing.get_type_hints(method) is not None
