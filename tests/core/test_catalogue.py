"""Models, providers and profiles, in every list shape that was seen; and how much each model holds."""

import json
from pathlib import Path

import pytest

from lunar_core import context_window
from lunar_core.wire import catalogue, model_facts

PRICED = {
    "id": "gpt-4o",
    "owned_by": "openai",
    "input_per_million": 2.5,
    "output_per_million": 10.0,
    "cache_input_per_million": 1.25,
    "providers": [{"id": "azure", "model_id": "gpt-4o-eu", "input_per_million": 2.75}],
}


def read(reader, data):
    return reader(json.dumps(data).encode())


@pytest.mark.parametrize(
    "data",
    [
        [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}],
        {"object": "list", "data": [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}]},
        {"models": [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}]},
        {"data": None, "models": [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}]},
        ["gpt-4o", "gpt-4o-mini"],
    ],
)
def test_models_are_read_from_every_list(data):
    assert [model.id for model in read(catalogue.read_models, data)] == ["gpt-4o", "gpt-4o-mini"]


def test_whom_the_router_chooses_among_is_what_the_reference_lists():
    sample = Path(__file__).parents[1] / "samples" / "router.profiles" / "200.json"
    assert catalogue.read_profiles(sample.read_bytes()).profiles == list(model_facts.ROUTED)


@pytest.mark.parametrize(
    "data",
    [
        {"profiles": ["gpt-4o", "gpt-4o-mini"], "count": 2},
        {"profiles": [{"model": "gpt-4o", "clusters": 100}, {"name": "gpt-4o-mini"}]},
        {"data": [{"id": "gpt-4o"}, "gpt-4o-mini"], "count": "two"},
        ["gpt-4o", "gpt-4o-mini"],
        [{"name": "gpt-4o"}, {"model": "gpt-4o-mini"}],
    ],
    ids=str,
)
def test_profiles_are_read_from_every_list_that_was_seen(data):
    profiles = read(catalogue.read_profiles, data)
    assert (profiles.profiles, profiles.count) == (["gpt-4o", "gpt-4o-mini"], 2)


@pytest.mark.parametrize("data", [{}, {"profiles": None}, "gpt-4o", 7, [{"clusters": 100}], [None]])
def test_what_holds_no_profiles_is_none(data):
    with pytest.raises(ValueError, match=r"."):
        read(catalogue.read_profiles, data)


def test_prices_are_kept_for_the_model_and_for_each_provider():
    (model,) = read(catalogue.read_models, [PRICED])
    assert (model.input_per_million, model.output_per_million) == (2.5, 10.0)
    assert model.cache_input_per_million == 1.25
    (azure,) = model.providers
    assert (azure.id, azure.input_per_million, azure.output_per_million) == ("azure", 2.75, None)
    assert azure.model_extra == {"model_id": "gpt-4o-eu"}


def test_a_model_without_prices_has_none_rather_than_zero():
    (model,) = read(catalogue.read_models, [{"id": "gpt-4o", "context_length": 128_000}])
    assert (model.owned_by, model.input_per_million, model.providers) == (None, None, None)
    assert model.context_length == 128_000


@pytest.mark.parametrize("price", ["free", -1, None, [2.5]])
def test_a_garbled_price_is_unknown(price):
    (model,) = read(catalogue.read_models, [{"id": "gpt-4o", "input_per_million": price}])
    assert model.input_per_million is None


@pytest.mark.parametrize(
    "data",
    [
        [{"id": "openai", "type": "primary", "enabled": True, "params": {}}],
        {"providers": [{"id": "openai", "type": "primary", "enabled": True, "params": {}}]},
        {"data": [{"id": "openai", "type": "primary", "enabled": True, "params": {}}]},
    ],
)
def test_providers_are_read_from_every_list(data):
    (provider,) = read(catalogue.read_providers, data)
    assert provider.model_dump() == {
        "id": "openai",
        "type": "primary",
        "enabled": True,
        "params": {},
    }


def test_a_providers_type_is_an_open_word():
    (provider,) = read(catalogue.read_providers, [{"id": "x", "type": "canary", "region": "eu"}])
    assert (provider.type, provider.enabled, provider.region) == ("canary", None, "eu")


def test_profiles_are_counted_where_the_service_does_not():
    profiles = read(catalogue.read_profiles, {"profiles": ["gpt-4o", "gpt-4o-mini"]})
    assert (profiles.profiles, profiles.count) == (["gpt-4o", "gpt-4o-mini"], 2)
    assert read(catalogue.read_profiles, {"profiles": ["gpt-4o"], "count": 6}).count == 6


@pytest.mark.parametrize("reader", [catalogue.read_models, catalogue.read_providers])
@pytest.mark.parametrize(
    "data",
    [None, 7, "gpt-4o", {}, {"data": "gpt-4o"}, {"detail": "down"}, [7], [{}], [{"id": None}]],
)
def test_what_is_no_list_of_them_is_refused(reader, data):
    with pytest.raises(ValueError, match=r"."):
        read(reader, data)


@pytest.mark.parametrize("data", [None, {}, {"profiles": "gpt-4o"}])
def test_what_is_no_list_of_profiles_is_refused(data):
    with pytest.raises(ValueError, match=r"."):
        read(catalogue.read_profiles, data)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o", 128_000),
        ("gpt-4", 8_192),
        ("gpt-4-turbo-2024-04-09", 128_000),
        ("openai/gpt-4o-mini", 128_000),
        ("bedrock/anthropic/claude-sonnet-4-20250514", 200_000),
        ("GPT-4.1-nano", 1_047_576),
        ("llama-3.1:8b", 131_072),
        ("gpt-4oh", None),
        ("made-up", None),
        ("gpt-4-0613", 8_192),
        ("gpt-4-1106-preview", 128_000),
        ("gpt-4.5-preview", 128_000),
        ("o1-preview-2024-09-12", 128_000),
        ("gpt-5-chat-latest", 128_000),
        ("ft:gpt-3.5-turbo:acme::7p4lURel", 16_385),
        ("anthropic/claude-3.5-sonnet", 200_000),
        ("claude-2.0", 100_000),
        ("together/meta-llama/Meta-Llama-3-70B-Instruct", 8_192),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", 131_072),
        ("llama3-70b-8192", 8_192),
        ("llama3.1:8b", 131_072),
        ("", None),
    ],
)
def test_a_models_window_is_found_by_the_longest_beginning_known(model, tokens):
    assert context_window(model) == tokens
