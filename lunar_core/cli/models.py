"""``lunar-llm models``: the models with their windows and prices, and marks on what the service does not state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from lunar_core import ConfigurationError, Lunar, LunarError, Model, Prices, context_window
from lunar_core.cli.app import AsJson, BaseUrl, app, open_client
from lunar_core.cli.printing import is_on_a_terminal, print_json, print_note, print_table
from lunar_core.types.usage import exact_usd
from lunar_core.wire.model_facts import CONTEXT_WINDOWS_DATE

MARK = "~"
_TOKENS = 1_000
"""The number of tokens to estimate a price with: a million would exceed the limit of prices for short prompts."""


@dataclass(frozen=True)
class PriceLine:
    """USD per million tokens of one model, each None if unknown. ``source``: None for the service's own."""

    input: Decimal | None = None
    cached: Decimal | None = None
    output: Decimal | None = None
    source: str | None = None


@app.command()
def models(*, as_json: AsJson = False, base_url: BaseUrl = None) -> None:
    """List the models with their windows and prices. A ~ marks what the service does not say."""
    with open_client(base_url, None, as_json=as_json) as client:
        catalogue = client.models.list()
        if not any(_states_prices(model) for model in catalogue):
            catalogue = _with_listed_prices(client, catalogue)
    lines = _price_lines(catalogue)
    windows = {model.id: context_window(model.id) for model in catalogue}
    if as_json:
        print_json([_to_dict(model, lines[model.id], windows[model.id]) for model in catalogue])
        return
    print_table(
        ("model", "owner", "USD per 1M tokens in", "cached", "out", "window"),
        [_row(model, lines[model.id], windows[model.id]) for model in catalogue],
    )
    for note in _notes(lines, windows):
        print_note(note)


def _states_prices(model: Model) -> bool:
    return model.input_per_million is not None or model.output_per_million is not None


def _with_listed_prices(client: Lunar, catalogue: list[Model]) -> list[Model]:
    """The same models with the prices of the service's price list, if it has one."""
    try:
        priced = {model.id: model for model in client.models.prices()}
    except LunarError:
        return catalogue  # the models are worth listing without prices
    names = ("input_per_million", "cache_input_per_million", "output_per_million")
    return [
        model.model_copy(update={name: getattr(priced[model.id], name) for name in names})
        if model.id in priced
        else model
        for model in catalogue
    ]


def _price_lines(catalogue: Sequence[Model]) -> dict[str, PriceLine]:
    """By model: the service's own prices, else estimates if the extra ``prices`` is installed."""
    own = {model.id: _own_prices(model) for model in catalogue if _states_prices(model)}
    missing = [model.id for model in catalogue if model.id not in own]
    return {**own, **_estimated_prices(missing)}


def _own_prices(model: Model) -> PriceLine:
    return PriceLine(
        exact_usd(model.input_per_million),
        exact_usd(model.cache_input_per_million),
        exact_usd(model.output_per_million),
    )


def _estimated_prices(names: Sequence[str]) -> dict[str, PriceLine]:
    unknown = dict.fromkeys(names, PriceLine())
    if not names:
        return unknown
    try:
        prices, day = Prices.bundled(), Prices.bundled_date()
    except ConfigurationError:  # not installed
        return unknown
    source = f"{prices.names[0]}{'' if day is None else f', whose newest price is of {day}'}"

    def of_million(name: str, prompt: int, completion: int, cached: int = 0) -> Decimal | None:
        cost = prices.cost(
            name, prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached
        )
        return None if cost is None else cost * 1_000_000 / _TOKENS

    for name in names:
        line = PriceLine(
            of_million(name, _TOKENS, 0),
            of_million(name, _TOKENS, 0, _TOKENS),
            of_million(name, 0, _TOKENS),
            source,
        )
        if line.input is not None or line.output is not None:
            unknown[name] = line
    return unknown


def _row(model: Model, line: PriceLine, window: int | None) -> tuple[str, ...]:
    mark = MARK if line.source is not None else ""
    prices = [
        "" if price is None else f"{mark}{price.normalize():f}"
        for price in (line.input, line.cached, line.output)
    ]
    count = "" if window is None else f"{window:,}" if is_on_a_terminal() else str(window)
    return model.id, model.owned_by or "", *prices, f"{MARK}{count}" if count else ""


def _notes(lines: Mapping[str, PriceLine], windows: Mapping[str, int | None]) -> list[str]:
    """The sources and dates of the marked figures."""
    sources = {line.source for line in lines.values() if line.source is not None}
    notes = [f"{MARK} prices are estimates, by the list of {source}" for source in sorted(sources)]
    if any(window is not None for window in windows.values()):
        notes.append(
            f"{MARK} windows: tokens by the makers' documentation, as of {CONTEXT_WINDOWS_DATE}"
        )
    return notes


def _to_dict(model: Model, line: PriceLine, window: int | None) -> dict[str, object]:
    """A model as the service states it, with our own figures added."""
    fields: dict[str, object] = model.model_dump(mode="json", exclude_none=True)
    if window is not None:
        fields["context_window"] = {"tokens": window, "as_of": CONTEXT_WINDOWS_DATE}
    if line.source is not None:
        names = ("input", "cached", "output")
        amounts = {name: getattr(line, name) for name in names}
        fields["estimated_usd_per_million"] = {
            **{
                name: f"{amount.normalize():f}"
                for name, amount in amounts.items()
                if amount is not None
            },
            "source": line.source,
        }
    return fields
