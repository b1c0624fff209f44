"""The messages of providers' failures, as the service's backend passes them on, in litellm's words.

The backend answers each failure of a provider with a 502 of its own around such a message, even for
a prompt that is too long. So only the message says what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lunar_core.sandbox.catalogue import MODELS, split_provider

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS: Mapping[str, str] = {
    "rate-limit": "RateLimitError: RateLimitError: {exception} - Rate limit reached for {model} on"
    " tokens per min (TPM). Please try again in 1s.",
    "context": "ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError:"
    " {exception} - {too_long}",
    "bad-request": "BadRequestError: {exception} - Invalid value for 'messages[0].content'.",
    "policy": "ContentPolicyViolationError: litellm.BadRequestError: ContentPolicyViolationError:"
    " {exception} - Your request was rejected as a result of our safety system.",
    "auth": "AuthenticationError: AuthenticationError: {exception} - Incorrect API key provided.",
    "no-model": "NotFoundError: NotFoundError: {exception} - The model `{model}` does not exist.",
    "failure": "InternalServerError: InternalServerError: {exception} - The server had an error.",
}
KINDS = ("rate-limit", "context", "bad-request", "policy", "auth")
"""The kinds of the faults ``502-KIND``."""


def provider_error(kind: str, requested_name: str, *, too_long: str | None = None) -> str:
    """Write what a provider says: ``openai error: litellm.RateLimitError: …``.

    ``kind``: one of ``KINDS``, ``no-model`` or ``failure``. ``requested_name``: the model as the request names it.
    ``too_long``: for ``context``: the provider's own sentence, if it isn't to be made up.
    """
    provider, name = _provider_and_model(requested_name)
    words = _WORDS[kind].format(
        exception=f"{_BRANDS.get(provider, provider.title())}Exception",
        model=name,
        too_long=too_long or too_long_by_one(requested_name),
    )
    return f"{provider} error: litellm.{words}"


def too_long_by_one(requested_name: str) -> str:
    """Write what a provider says of a prompt that has one token too many."""
    _, name = _provider_and_model(requested_name)
    window = MODELS[name].window if name in MODELS else 128_000
    return context_exceeded(window, window + 1)


def context_exceeded(
    window: int, prompt: int, completion: int = 0, *, is_text: bool = False
) -> str:
    """Write what OpenAI says of a prompt that is too long.

    ``window``: how many tokens the model holds. ``prompt``: how many the prompt has. ``completion``: how many the
    answer may have, where the request says so. ``is_text``: of a text completion's prompt, not of messages.
    """
    limit, total = f"This model's maximum context length is {window} tokens", prompt + completion
    if is_text:
        return (
            f"{limit}, however you requested {total} tokens ({prompt} in your prompt; {completion}"
            " for the completion). Please reduce your prompt; or completion length."
        )
    if completion:
        return (
            f"{limit}. However, you requested {total} tokens ({prompt} in the messages,"
            f" {completion} in the completion)."
            " Please reduce the length of the messages or completion."
        )
    return (
        f"{limit}. However, your messages resulted in {prompt} tokens."
        " Please reduce the length of the messages."
    )


def _provider_and_model(requested_name: str) -> tuple[str, str]:
    provider, name = split_provider(requested_name.partition("!")[0])
    return provider or (MODELS[name].owner if name in MODELS else "openai"), name


_BRANDS = {"openai": "OpenAI", "deepseek": "DeepSeek", "google": "Gemini"}
