"""Adds to an error's message what only the client knows: which key was sent, the URL, the timeout.

Nothing here shows a key.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from urllib.parse import urlsplit

from pydantic import SecretStr

from lunar_core.base_url import is_loopback
from lunar_core.client.call import Call
from lunar_core.client.logs import count_attempts
from lunar_core.credentials import Credential
from lunar_core.errors import APIConnectionError, APITimeoutError, LunarError
from lunar_core.settings import Settings
from lunar_core.types.attempt import Attempt
from lunar_core.wire.api_requests import APIRequest
from lunar_core.wire.model_facts import ROUTED

_STEPS = {
    "ConnectTimeout": "connect",
    "ReadTimeout": "read",
    "WriteTimeout": "write",
    "PoolTimeout": "pool",
}
"""Which field of ``Timeout`` ran out, by the class name of the error of httpx or httpx2."""
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"


def advise(error: LunarError, request: APIRequest, settings: Settings, call: Call) -> None:
    """Append to the error's message what the client knows about the failed request.

    The facts depend on the error: the kind and source of the key (401, 403), the URL (404, 405), models with similar
    names (400, 404, 422), the host that was not reached, the timeout that ran out.
    """
    facts = [fact for fact in _facts(error, request, settings, call) if fact]
    if facts:
        _append(error, "; ".join(facts))


def advise_reader(error: LunarError, call: Call) -> None:
    """Append to the message of an error that ended a stream which timeout ran out, if one did."""
    fact = _timeout_fact(error, call) if isinstance(error, APITimeoutError) else None
    if fact is not None:
        _append(error, fact)


def append_attempts(error: LunarError, attempts: Sequence[Attempt]) -> None:
    """Append the number of attempts to the error's message, to a rate limit's also ``retry_after`` and request id."""
    if error.status_code == 429:
        retry_after = getattr(error, "retry_after", None)
        facts = [
            f"after {count_attempts(attempts)}",
            None if retry_after is None else f"retry_after {retry_after:g} s",
            None if error.request_id is None else f"request id {error.request_id}",
        ]
        _append(error, "; ".join(fact for fact in facts if fact))
    elif len(attempts) > 1:
        _append(error, f"after {count_attempts(attempts)}")


def _append(error: LunarError, fact: str) -> None:
    error.message = f"{error.message} ({fact})"
    error.args = (error.message,)


def _facts(
    error: LunarError, request: APIRequest, settings: Settings, call: Call
) -> Iterator[str | None]:
    if error.status_code in (401, 403):
        yield _key_fact(settings.credential, call.secret)
        if request.path.startswith("/v1/router") and settings.credential.kind == "jwt":
            yield (
                "the service, as it was observed, takes only an API key here: "
                "use api_key= in place of jwt="
            )
    if error.status_code == 407:
        yield "a proxy on the way wants credentials: give them in its URL"
    if error.status_code in (404, 405):
        yield f"asked: {request.method} {settings.base_url}{request.path}"
    if error.status_code in (400, 404, 422):
        yield _nearest_model(_known_models(error, request), request)
    if isinstance(error, APIConnectionError) and not error.was_sent and error.is_retryable:
        yield _place_fact(error, settings)
    if isinstance(error, APITimeoutError):
        yield _timeout_fact(error, call)
    elif _is_refused(error) and is_loopback(urlsplit(settings.base_url).hostname or ""):
        yield "nobody listens there; is the sandbox running? python -m lunar_core.sandbox"


def _key_fact(credential: Credential, secret: SecretStr | None) -> str:
    """Say which kind of key was sent and where it came from. Of the key: only whether it begins with pk_."""
    if credential.source is None:
        source = f"of the environment, {credential.variable}"
    elif isinstance(credential.source, SecretStr):
        source = f"given as {credential.kind}="
    else:
        source = f"returned by the function given as {credential.kind}="
    if credential.kind == "jwt":
        return f"sent: a token, {source}"
    is_lunars = secret is not None and secret.get_secret_value().startswith("pk_")
    return f"sent: an API key, {source}; Lunar's begin with pk_{'' if is_lunars else ', this one does not'}"


def _place_fact(error: LunarError, settings: Settings) -> str | None:
    """The host that was not reached, unless the error names it already."""
    place = urlsplit(settings.base_url).netloc
    return None if place in error.message else f"asked: {place}"


def _timeout_fact(error: LunarError, call: Call) -> str | None:
    if call.deadline is not None and call.time_left() <= 0:
        return f"total_timeout ran out, {round(call.deadline - call.started, 2):g} s"
    step = next((step for name, step in _STEPS.items() if name in error.message), None)
    seconds = None if step is None else getattr(call.timeout, step)
    return None if seconds is None else f"timeout.{step} is {seconds:g} s"


def _is_refused(error: LunarError) -> bool:
    return isinstance(error, APIConnectionError) and _REFUSED in error.message


def _known_models(error: LunarError, request: APIRequest) -> Sequence[str]:
    """The models that the error's body lists. If it lists none and says that the model is unknown: the reference's."""
    listed = list(dict.fromkeys(_listed_names(error.body)))
    is_no_model = (
        error.status_code == 404 and bool(request.model) and request.model in error.message
    )
    return ROUTED if not listed and is_no_model else listed


def _nearest_model(listed: Sequence[str], request: APIRequest) -> str | None:
    """Suggest the listed names that are most like the requested ones that are not listed."""
    candidates = request.params.get("models")
    requested = [request.model, *(candidates if isinstance(candidates, (list, tuple)) else ())]
    missing = [name for name in requested if isinstance(name, str) and name not in listed]
    nearest = [match for name in missing for match in get_close_matches(name, listed, 3)]
    return f"did you mean {', '.join(dict.fromkeys(nearest))}?" if nearest else None


def _listed_names(body: object) -> Iterator[str]:
    """The strings of every list in an error's body that is named ``models`` or ``available…``."""
    if isinstance(body, Mapping):
        for name, value in body.items():
            if isinstance(value, list) and ("available" in str(name) or str(name) == "models"):
                yield from (item for item in value if isinstance(item, str))
            else:
                yield from _listed_names(value)
