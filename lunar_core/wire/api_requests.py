"""Makes an APIRequest of an endpoint's parameters, and checks them before anything is sent.

Every check raises ConfigurationError that names the field. Fields that the API does not document are sent as they are.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn
from urllib.parse import quote

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from lunar_core.errors import ConfigurationError, describe_unexpected
from lunar_core.wire.keywords import check_no_settings
from lunar_core.wire.replay import without_signed_fields
from lunar_core.wire.text import join_all_surrogates

ROUTER = "router"
"""The model name that lets the service choose."""

OPTIONS = frozenset(
    {"timeout", "max_retries", "total_timeout", "fallbacks", "extra_headers", "stream_usage"}
)
"""Keywords that steer the client and are never sent."""

_LONGEST_QUERY = 8_000
"""Characters: what servers take of a URL."""


@dataclass(frozen=True)
class APIRequest:
    """One request. ``body``: JSON, or None for GET. ``model``: the model that it asks, for the records."""

    method: str
    path: str
    model: str = ""
    params: Mapping[str, object] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    stream: bool = False

    def for_model(self, model: str) -> APIRequest:
        """The same request to another model, without the fields that the first one signed in the conversation."""
        params = {**self.params, "model": model}
        if model != self.model and "messages" in params:
            params["messages"] = without_signed_fields(params["messages"])
        if "/" in model:
            params.pop(
                "provider", None
            )  # ``provider/model`` names a provider itself, perhaps another one
        return replace(self, model=model, params=params, body=_encode(params))


def chat(params: Mapping[str, object]) -> APIRequest:
    """POST /v1/chat/completions, with ``model`` and ``messages`` among ``params``."""
    return _post("/v1/chat/completions", params, required=("model", "messages"))


def text(params: Mapping[str, object]) -> APIRequest:
    """POST /v1/completions, with ``model`` and ``prompt`` among ``params``."""
    if params.get("model") == ROUTER:
        _refuse("model", "the router chooses among chat models; name one for text completions")
    return _post("/v1/completions", params, required=("model", "prompt"))


def router(params: Mapping[str, object]) -> APIRequest:
    """POST /v1/router, with ``messages`` among ``params``."""
    if params.get("execute") is False and params.get("stream"):
        raise ConfigurationError("stream: a decision alone (execute=False) cannot be streamed")
    return _post("/v1/router", params, required=("messages",))


def profiles() -> APIRequest:
    return APIRequest("GET", "/v1/router/profiles")


def models() -> APIRequest:
    return APIRequest("GET", "/v1/models")


def priced_models() -> APIRequest:
    """GET /v1/pricing/models. A service without /v1/models lists its models only here (observed)."""
    return APIRequest("GET", "/v1/pricing/models")


def providers(model: str | None) -> APIRequest:
    """GET /v1/providers. Without a model, the service assumes ``gpt-4o-mini``."""
    if model is None:
        return APIRequest("GET", "/v1/providers")
    _check_model(model, "model")
    try:
        query = quote(model, safe="")
    except UnicodeEncodeError:
        _refuse("model", "holds half of a surrogate pair")
    if len(query) > _LONGEST_QUERY:
        _refuse("model", "is too long for a URL")
    return APIRequest("GET", f"/v1/providers?model={query}", model=model)


def clean(params: Mapping[str, object]) -> dict[str, object]:
    """``params`` in the form that is sent: without None, with ``extra_body`` merged in, ``stop`` as a list."""
    body = {
        key: value for key, value in params.items() if value is not None and key != "extra_body"
    }
    if body.get("stream") is False:
        del body["stream"]  # the service's own default, which need not be sent
    if isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
    if "messages" in body:
        body["messages"] = _plain_messages(body["messages"])
    extra = params.get("extra_body")
    if extra is not None:
        if not isinstance(extra, Mapping):
            _refuse("extra_body", f"expected a dict{describe_unexpected(extra)}")
        if "stream" in extra and bool(extra["stream"]) is not bool(params.get("stream")):
            _refuse("extra_body", "stream is a keyword of the call, which says what it returns")
        check_no_settings(extra, "extra_body")
        body.update(extra)
    return body


def _post(path: str, params: Mapping[str, object], required: tuple[str, ...]) -> APIRequest:
    for name in required:
        if name not in params:
            _refuse(name, "is required")
    for name, value in params.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(value, name)
    model = params.get("model", ROUTER)
    return APIRequest("POST", path, str(model), params, _encode(params), bool(params.get("stream")))


def check_values(params: Mapping[str, object]) -> None:
    """Check each value that is not None, as it is checked when a request is made. Models do so at construction.

    A ``cost_weight`` that is a function is not called: its result is checked with each request. Raises
    ConfigurationError that names the field.
    """
    for name, value in params.items():
        if value is None or (name == "cost_weight" and callable(value)):
            continue
        if name in _CHECKS:
            _CHECKS[name]([value] if name == "stop" and isinstance(value, str) else value, name)


def _refuse(name: str, why: str) -> NoReturn:
    raise ConfigurationError(f"{name}: {why}")


def _number(low: float, high: float = math.inf) -> Callable[[object, str], None]:
    span = f"{low:g} or more" if high == math.inf else f"between {low:g} and {high:g}"

    def check(value: object, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse(name, f"expected a number, {span}{describe_unexpected(value)}")
        if not low <= value <= high:
            _refuse(name, f"must be {span}{describe_unexpected(value)}")

    return check


def _whole_number(low: int) -> Callable[[object, str], None]:
    def check(value: object, name: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int):
            _refuse(name, f"expected a whole number, {low} or more{describe_unexpected(value)}")
        if value < low:
            _refuse(name, f"must be {low} or more{describe_unexpected(value)}")

    return check


def _check_bool(value: object, name: str) -> None:
    if not isinstance(value, bool):
        _refuse(name, f"expected True or False{describe_unexpected(value)}")


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        _refuse(name, f"expected a string{describe_unexpected(value)}")


def _check_model(value: object, name: str) -> None:
    _check_text(value, name)
    if not str(value).strip():
        _refuse(name, "is empty")


def _check_strings(value: object, name: str) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        _refuse(name, f"expected a list of strings{_unless_list(value)}")


def _check_candidates(value: object, name: str) -> None:
    _check_strings(value, name)
    if isinstance(value, (list, tuple)) and len(value) < 2:
        _refuse(name, f"a choice needs at least 2 models, not {len(value)}")
    if isinstance(value, (list, tuple)) and not all(str(item).strip() for item in value):
        _refuse(name, "one of the names is empty")


def _unless_list(value: object) -> str:
    """What came, unless it is the list that was expected: then one of its items is wrong."""
    return "" if isinstance(value, (list, tuple)) else describe_unexpected(value)


def _check_objects(value: object, name: str) -> None:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, Mapping) for item in value):
        _refuse(name, f"expected a list of dicts{_unless_list(value)}")


def _check_messages(value: object, name: str) -> None:
    if not isinstance(value, list) or not value:
        _refuse(
            name,
            'expected a list of at least 1 message, such as [{"role": "user", "content": "hi"}]',
        )
    for number, message in enumerate(value):
        where = f"{name}[{number}]"
        if not isinstance(message, Mapping):
            _refuse(where, 'expected a dict such as {"role": "user", "content": "hi"}')
        role = message.get("role")
        if not isinstance(role, str) or not role:
            _refuse(f"{where}.role", "expected a string such as 'user'")
        _check_content(message.get("content"), f"{where}.content", required=role != "assistant")


def _check_content(content: object, where: str, *, required: bool) -> None:
    if isinstance(content, (list, tuple)):
        for position, part in enumerate(content):
            if not isinstance(part, (Mapping, str)):
                _refuse(f"{where}[{position}]", "expected a dict with a type")
    elif content is None:
        if required:
            _refuse(where, "is required")
    elif not isinstance(content, str):
        _refuse(where, f"expected a string or a list of parts{describe_unexpected(content)}")


_CHECKS: dict[str, Callable[[object, str], None]] = {
    "model": _check_model,
    "messages": _check_messages,
    "prompt": _check_text,
    "stream": _check_bool,
    "max_tokens": _whole_number(1),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "stop": _check_strings,
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "n": _whole_number(1),
    "provider": _check_model,
    "execute": _check_bool,
    "models": _check_candidates,
    "cost_weight": _number(0),
    "tools": _check_objects,
    "response_format": lambda value, name: (
        None
        if isinstance(value, Mapping)
        else _refuse(name, f"expected a dict{describe_unexpected(value)}")
    ),
}


def _plain_messages(messages: object) -> object:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        return messages  # _check_messages refuses it
    return [m.model_dump(exclude_none=True) if isinstance(m, BaseModel) else m for m in messages]


def _encode(params: Mapping[str, object]) -> bytes:
    try:
        body = to_json(params, fallback=_as_dict)
    except (PydanticSerializationError, ValueError, RecursionError):
        body = _encode_without_surrogates(params)
    if b"NaN" in body or b"Infinity" in body:  # perhaps only in a text: JSON itself has neither
        _refuse_nan(params)
    return body


def _encode_without_surrogates(params: Mapping[str, object]) -> bytes:
    """Encode ``params`` with lone surrogates replaced.

    A tool may return the name of an old file, or a model half an emoji: the conversation must not end with that.
    """
    texts = {name: params[name] for name in ("messages", "prompt") if name in params}
    try:
        mended = {name: join_all_surrogates(value) for name, value in texts.items()}
        return to_json({**params, **mended}, fallback=_as_dict)
    except (PydanticSerializationError, ValueError, RecursionError):
        _name_the_unencodable(params)


def _as_dict(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"it holds an object of type {type(value).__name__}")


def _as_dict_or_text(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else str(value)


_SERIALIZER_PREFIX = re.compile(r"^Error serializing to JSON: (ValueError: )?")
"""What pydantic puts before the reason, and the message says already."""


def _name_the_unencodable(params: Mapping[str, object]) -> NoReturn:
    for name, value in params.items():
        items = enumerate(value) if isinstance(value, (list, tuple)) else [(None, value)]
        for number, item in items:
            try:
                to_json(item, fallback=_as_dict)
            except (PydanticSerializationError, ValueError, RecursionError) as error:
                _refuse(
                    name if number is None else f"{name}[{number}]",
                    f"cannot be written as JSON: {_SERIALIZER_PREFIX.sub('', str(error))}",
                )
    _refuse("extra_body", "cannot be written as JSON")


def _refuse_nan(params: Mapping[str, object]) -> None:
    for name, value in params.items():
        try:
            json.dumps(value, allow_nan=False, default=_as_dict_or_text)
        except ValueError:
            _refuse(name, "holds NaN or an infinity, which JSON cannot carry")
