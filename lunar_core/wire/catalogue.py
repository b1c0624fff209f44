"""The answers of the catalogue: models, providers, routing profiles. Reads every form of list that was observed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from lunar_core.types.completions import Answer
from lunar_core.types.usage import Amount
from lunar_core.wire import parsing


class CatalogueModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", coerce_numbers_to_str=True)


class ModelPrices(CatalogueModel):
    """USD per million tokens at one provider; None where the service states none."""

    id: str | None = None
    input_per_million: Amount | None = None
    output_per_million: Amount | None = None
    cache_input_per_million: Amount | None = None


class Model(CatalogueModel):
    """A model of GET /v1/models. Prices, in USD per million tokens, are None unless the service lists them.

    >>> model = Lunar().models.prices()[0]
    >>> model.id, model.input_per_million, model.output_per_million
    ('gpt-4o', 2.5, 10.0)
    """

    id: str
    owned_by: str | None = None
    input_per_million: Amount | None = None
    output_per_million: Amount | None = None
    cache_input_per_million: Amount | None = None
    providers: list[ModelPrices] | None = None


class Provider(CatalogueModel):
    """A provider of GET /v1/providers. ``type``: "primary", "backup" or another word of the service's.

    >>> [(provider.id, provider.type) for provider in Lunar().providers.list(model="gpt-4o")]
    [('openai', 'primary'), ('azure', 'backup')]
    """

    id: str
    type: str | None = None
    enabled: bool | None = None
    params: dict[str, object] | None = None


class Profiles(Answer):
    """GET /v1/router/profiles: the models that the router may choose.

    >>> Lunar().router.profiles().profiles[:2]
    ['gpt-4o', 'gpt-4o-mini']
    """

    profiles: list[str]
    count: int | None = None


T = TypeVar("T", bound=BaseModel)


def read_profiles(payload: bytes) -> Profiles:
    """Read the profiles from any list that was observed: of names or objects, under a key or at the top level."""
    data = parsing.parse_json(payload)
    fields = data if isinstance(data, dict) else {"profiles": data}
    models = next((fields[name] for name in _LISTS if isinstance(fields.get(name), list)), None)
    if not isinstance(models, list):
        raise ValueError("there is no list of profiles")  # noqa: TRY004  # wrong JSON, not a wrong call
    names = [_model_name(model) for model in models]
    profiles = parsing.validate_leniently(Profiles, {**fields, "profiles": names})
    return profiles.model_copy(update={"count": len(names)}) if profiles.count is None else profiles


_LISTS = ("profiles", "models", "data")


def _model_name(model: object) -> object:
    """The name of a profile's model, which is the name itself or an object that holds it."""
    if not isinstance(model, dict):
        return model
    return next((model[name] for name in ("model", "name", "id") if model.get(name)), model)


def _reader(kind: type[T], *names: str) -> Callable[[bytes], list[T]]:
    def read(payload: bytes) -> list[T]:
        data = parsing.parse_json(payload)
        if isinstance(data, dict):
            data = next((data[name] for name in names if isinstance(data.get(name), list)), None)
        if not isinstance(data, list):
            raise ValueError(f"there is no list of {names[0]}")  # noqa: TRY004  # wrong JSON, not a wrong call
        items = [{"id": item} if isinstance(item, str) else item for item in data]
        return [parsing.validate_leniently(kind, item) for item in items]

    return read


read_models = _reader(Model, "models", "data")
read_providers = _reader(Provider, "providers", "data")
