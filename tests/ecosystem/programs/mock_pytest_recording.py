"""pytest-recording, which blocks the network and plays cassettes."""

import pytest
from answers import new_client, text_of

from lunar_core import LunarError


@pytest.mark.block_network
def test_a_blocked_network_is_named():
    with pytest.raises(LunarError, match=r"^RuntimeError: Network is disabled.*a test tool"):
        text_of(new_client())


@pytest.mark.vcr(record_mode="none")
def test_without_a_cassette_nothing_leaves_this_machine():
    with pytest.raises(LunarError, match=r"(?s)cassette"):
        text_of(new_client())
