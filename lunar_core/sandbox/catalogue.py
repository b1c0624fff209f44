"""The catalogue of the sandbox: models, their providers, prices and routing profiles.

Prices are USD per million tokens and made to resemble the providers' lists; they are
the sandbox's own and bill nobody. A profile says how often a model errs on each topic
(``TOPICS``); the six models that have one are the candidates of ``/v1/router``. As in the
service's profiles, models tie (on small talk, medicine and haikus), and cost weights between 0 and
100 change the choice: ``gpt-4o`` gives way to a cheaper model on medicine from a weight of 20.5,
on law from 23.9, on proofs from 62.3. A window is how many tokens a model holds, prompt and answer
together.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# A prompt's cluster is the topic whose words it has most of.
TOPICS: Mapping[str, frozenset[str]] = {
    topic: frozenset(words.split())
    for topic, words in {
        "general": "",
        "code": "code python javascript java rust sql function class bug debug compile algorithm "
        "regex refactor program script api git unit recursion complexity",
        "mathematics": "prove proof theorem integral derivative equation solve algebra geometry "
        "calculus prime primes probability matrix irrational sqrt number infinitely",
        "medicine": "medical medicine patient symptom symptoms diagnosis disease drug dose "
        "treatment blood clinical pain doctor differential mg",
        "writing": "write haiku poem story essay email letter lyrics rhyme tone slogan joke "
        "summarize summarise rewrite headline",
        "translation": "translate translation french german spanish italian japanese chinese "
        "portuguese english language idiom",
        "law": "law legal contract clause court liability statute tax plaintiff license gdpr",
    }.items()
}


@dataclass(frozen=True)
class Model:
    """One model: its owner, USD per million tokens, its window, its expected errors."""

    id: str
    owner: str
    input: Decimal
    cached: Decimal
    output: Decimal
    window: int
    """Tokens that a prompt and its answer may have together."""
    backups: tuple[str, ...] = ()
    profile: tuple[float, ...] | None = None
    """Expected error per topic, in the order of ``TOPICS``; None: no routing profile."""
    chat: bool = True
    """False: no chat template, so only ``/v1/completions`` takes it."""
    reasons: bool = False

    @property
    def providers(self) -> tuple[str, ...]:
        """The primary provider, then the backups."""
        return (self.owner, *self.backups)

    @property
    def cost_per_1k_tokens(self) -> float:
        """USD per 1,000 tokens, the mean of reading and writing: what a cost weight multiplies."""
        return float((self.input + self.output) / 2 / 1000)


def _model(
    id: str,
    owner: str,
    prices: str,
    window: int,
    *,
    backups: str = "",
    profile: str = "",
    chat: bool = True,
    reasons: bool = False,
) -> Model:
    read, cached, written = (Decimal(price) for price in prices.split())
    errors = tuple(float(error) for error in profile.split())
    return Model(
        id=id,
        owner=owner,
        input=read,
        cached=cached,
        output=written,
        window=window,
        backups=tuple(backups.split()),
        profile=errors or None,
        chat=chat,
        reasons=reasons,
    )


# The price list's order: where two models score the same, the first of them wins.
_ALL = (
    _model(
        "gpt-4o",
        "openai",
        "2.50 1.25 10.00",
        128_000,
        backups="azure",
        profile="0.12 0.14 0.16 0.09 0.10 0.08 0.12",
    ),
    _model(
        "gpt-4o-mini",
        "openai",
        "0.15 0.075 0.60",
        128_000,
        backups="azure",
        profile="0.12 0.22 0.60 0.21 0.10 0.15 0.26",
    ),
    _model(
        "gpt-4-turbo",
        "openai",
        "10.00 10.00 30.00",
        128_000,
        backups="azure",
        profile="0.14 0.18 0.15 0.09 0.12 0.10 0.10",
    ),
    _model(
        "gpt-3.5-turbo",
        "openai",
        "0.50 0.50 1.50",
        16_385,
        profile="0.28 0.48 0.80 0.45 0.20 0.30 0.50",
    ),
    _model(
        "mistral-large-latest",
        "mistral",
        "2.00 2.00 6.00",
        128_000,
        profile="0.15 0.12 0.30 0.18 0.13 0.06 0.18",
    ),
    _model(
        "mistral-small-latest",
        "mistral",
        "0.10 0.10 0.30",
        32_000,
        profile="0.20 0.30 0.66 0.36 0.10 0.21 0.38",
    ),
    _model("gpt-4.1", "openai", "2.00 0.50 8.00", 1_047_576, backups="azure"),
    _model("gpt-4.1-mini", "openai", "0.40 0.10 1.60", 1_047_576, backups="azure"),
    _model("o3-mini", "openai", "1.10 0.55 4.40", 200_000, reasons=True),
    _model("o4-mini", "openai", "1.10 0.275 4.40", 200_000, reasons=True),
    _model("claude-sonnet-4", "anthropic", "3.00 0.30 15.00", 200_000, backups="bedrock"),
    _model("claude-3-5-haiku", "anthropic", "0.80 0.08 4.00", 200_000, backups="bedrock"),
    _model("claude-3-haiku", "anthropic", "0.25 0.03 1.25", 200_000, backups="bedrock"),
    _model("gemini-2.0-flash", "google", "0.10 0.025 0.40", 1_048_576),
    _model("deepseek-chat", "deepseek", "0.27 0.07 1.10", 128_000),
    _model("deepseek-reasoner", "deepseek", "0.55 0.14 2.19", 128_000, reasons=True),
    _model("llama-3.1-8b", "groq", "0.05 0.05 0.08", 131_072, backups="together fireworks"),
    _model("llama-3.3-70b", "groq", "0.59 0.59 0.79", 131_072, backups="together"),
    _model("ministral-3b-latest", "mistral", "0.04 0.04 0.04", 131_072),
    _model("ministral-8b-latest", "mistral", "0.10 0.10 0.10", 131_072),
    _model("codestral-latest", "mistral", "0.30 0.30 0.90", 256_000),
    _model("pixtral-12b-2409", "mistral", "0.15 0.15 0.15", 131_072),
    _model("gpt-3.5-turbo-instruct", "openai", "1.50 1.50 2.00", 4_096, chat=False),
)

MODELS: Mapping[str, Model] = {model.id: model for model in _ALL}
PROFILED: tuple[Model, ...] = tuple(model for model in _ALL if model.profile)
PROVIDERS: frozenset[str] = frozenset(name for model in _ALL for name in model.providers)


def split_provider(name: str) -> tuple[str | None, str]:
    """Read ``provider/model``: ``("openai", "gpt-4o")``, or ``(None, name)`` without a prefix."""
    provider, slash, rest = name.partition("/")
    return (provider, rest) if slash else (None, name)
