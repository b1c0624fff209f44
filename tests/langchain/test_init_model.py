"""init_lunar_model stands where init_chat_model would."""

from __future__ import annotations

import pytest

from langchain_lunar import ChatLunar, init_lunar_model
from lunar_core import ConfigurationError


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("router", "router"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("lunar:gpt-4o-mini", "gpt-4o-mini"),
        ("lunar:router", "router"),
    ],
)
def test_a_name_makes_a_model(name, model):
    made = init_lunar_model(name, api_key="pk_live_test", temperature=0)
    assert (type(made), made.model, made.temperature) == (ChatLunar, model, 0)


def test_without_a_name_the_router_chooses(monkeypatch):
    monkeypatch.setenv("LUNAR_API_KEY", "pk_live_test")
    assert init_lunar_model().model == "router"


def test_no_name_at_all_is_refused():
    with pytest.raises(ConfigurationError, match="model"):
        init_lunar_model("lunar:", api_key="pk_live_test")
