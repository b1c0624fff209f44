"""pytest-recording, which plays cassettes and blocks the network: new connections, that is, of whatever library."""

import pytest
from answers import WAYS, name_of

from lunar_core import LunarError


@pytest.mark.parametrize(
    "question", [way for way in WAYS if "new" in way], ids=name_of, indirect=True
)
@pytest.mark.block_network
def test_a_blocked_network_is_named(question):
    with pytest.raises(LunarError, match=r"^RuntimeError: Network is disabled.*a test tool"):
        question.ask()


@pytest.mark.vcr(record_mode="none")
def test_without_a_cassette_nothing_leaves_this_machine(question):
    with pytest.raises(LunarError, match=r"(?s)cassette"):
        question.ask()
