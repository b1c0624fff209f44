"""Event loops and TLS of other kinds, and those that come late."""

import pytest


def test_nest_asyncio_leaves_no_noise(run_program):
    assert run_program("on_nest_asyncio") == ["hello", "hello"]


def test_trio_is_told_in_words_and_may_bring_a_client(run_program):
    refusal, answer = run_program("on_trio")
    assert refusal.startswith("ConfigurationError: AsyncLunar needs asyncio")
    assert answer == "hello"


@pytest.mark.parametrize("tool", ["gevent", "truststore"])
def test_what_replaces_tls_after_a_first_call_is_used(tool, run_program, tmp_path):
    assert run_program("late_tls", tool, FOLDER=str(tmp_path)) == ["hi", "hi", True]
