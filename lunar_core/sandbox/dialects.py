"""The two dialects of the service: the forms of its answers and errors.

``Documented`` is the reference, read literally, plus OpenAI's pass-through fields on
``/v1/chat/completions``. ``Observed`` is the hosted backend as it was observed: it ignores
most parameters and states no usage, cost or route in streams. Only this file builds answers, as
dicts.

Usage in the documented dialect's streams: on the last chunk with choices, so that the reference's
own loop (``chunk.choices[0]``) works; with ``stream_options.include_usage`` on a closing chunk
whose ``choices`` are empty (true) or nowhere (false). The header
``x-sandbox-usage: last | closing | every | none`` overrides that, in both dialects.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from lunar_core.sandbox import requests
from lunar_core.sandbox.answers import Answer, Piece
from lunar_core.sandbox.catalogue import MODELS, split_provider
from lunar_core.sandbox.errors import ServiceError
from lunar_core.sandbox.provider_errors import provider_error
from lunar_core.sandbox.usage import COST_NAMES, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from lunar_core.sandbox.router import Route

Json = dict[str, Any]

NO_KEY = (
    "Authentication required. Provide either 'x-api-key' header or 'Authorization: Bearer <token>'"
)


@dataclass(frozen=True)
class Head:
    """The fields that all chunks of an answer share."""

    id: str
    kind: str
    """``chat``, ``text`` or ``router``."""
    model: str
    route: Route | None = None


class Documented:
    """The reference, read literally."""

    name = "documented"
    id_prefixes: Mapping[str, str] = {"text": "cmpl_", "router": "router-"}
    """The prefix of an answer's id, by kind; ``chatcmpl_`` for other kinds."""
    has_models = True
    """Whether there is a ``/v1/models``."""
    reads_options = True
    """Whether parameters other than model, messages and stream have an effect."""
    router_takes_jwt = True
    """Whether the router, its profiles and the providers accept a Bearer token."""
    router_without_key = (401, NO_KEY)
    router_with_bad_key = (401, NO_KEY)
    done_after_error = False
    """Whether ``[DONE]`` follows an error event."""
    route_in_headers = False
    candidates_have_providers = True
    """Whether the router's ``models`` may be written ``provider/model``."""
    reads_any_type = True
    """Whether a body is read as JSON whatever its Content-Type."""
    text_tokens: int | None = 1024
    """The ``max_tokens`` of a text completion that states none."""
    direct_providers: frozenset[str] = frozenset()
    """Providers that get a request for any model name with their prefix, known or not."""
    tells_reasoning = True
    """Whether answers hold the model's reasoning, which then counts as tokens."""
    empty_is_text = False
    """Whether a provider's answer without choices or text is an empty text, and not a failure."""
    guards_unknown_paths = False
    """Whether an unknown path needs a key before it is 404."""

    bodies: Mapping[str, type[BaseModel]] = {
        "chat": requests.ChatRequest,
        "text": requests.TextRequest,
        "router": requests.RouterRequest,
    }

    def head(self, kind: str, model: str, route: Route | None = None) -> Head:
        """Begin an answer: give it its id."""
        prefix = self.id_prefixes.get(kind, "chatcmpl_")
        return Head(f"{prefix}{uuid.uuid4().hex}", kind, model, route)

    # Whole answers

    def completion(self, head: Head, answer: Answer, usage: Json) -> Json:
        """Form an answer."""
        choices: list[Json] = []
        for index, choice in enumerate(answer.choices):
            if head.kind == "text":
                content: Json = {"text": choice.message["content"] or ""}
            else:
                content = {"message": choice.message}
            logprobs = {"logprobs": choice.logprobs} if choice.logprobs else {}
            choices.append(
                {"index": index, **content, **logprobs, "finish_reason": choice.finish_reason}
            )
        return {**self._frame(head), **self._routing(head), "choices": choices, "usage": usage}

    def decision(self, head: Head) -> Json:
        """Form the answer to ``execute: false``: the route alone."""
        return {**self._frame(head), **self._routing(head)}

    def usage(
        self, tokens: Tokens, costs: Mapping[str, float], latency: float, first: float
    ) -> Json:
        """Form ``usage``: counts, costs in USD (where known), milliseconds."""
        usage: Json = {**_counts(tokens), **costs, "latency_ms": latency, "ttft_ms": first}
        if tokens.cached:
            usage["prompt_tokens_details"] = {"cached_tokens": tokens.cached}
        if tokens.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": tokens.reasoning}
        return usage

    # Streams

    def opening(self, head: Head, choices: int) -> Iterator[Json]:
        """Form the chunks before the first piece: the roles, and the route."""
        if head.kind == "text":
            return
        routing = self._routing(head)
        for index in range(choices):
            role = Piece(index, {"role": "assistant", "content": ""})
            yield self._chunk(head, role, routing if index == 0 else {})

    def chunk(self, head: Head, piece: Piece, usage: Json | None = None) -> Json:
        """Form one piece of a stream."""
        return self._chunk(head, piece, {} if usage is None else {"usage": usage})

    def closing(self, head: Head, usage: Json) -> Json:
        """Form the chunk that has usage and no choices."""
        return {**self._frame(head, ".chunk"), "choices": [], "usage": usage}

    def usage_style(self, options: Mapping[str, Any]) -> str:
        """Read from the request's options which chunks of a stream have usage."""
        include_usage = (options.get("stream_options") or {}).get("include_usage")
        if include_usage is None:
            return "last"
        return "closing" if include_usage else "none"

    def error_event(self, head: Head, reason: str) -> Json:
        """Form the event that ends a stream which failed, for a provider's ``reason``."""
        message = self.describe_failure(head.model, reason, head.kind)
        return {"error": {"message": message, "type": "server_error"}}

    # Errors

    def describe_failure(self, model: str, reason: str, kind: str = "chat") -> str:
        """Say that a model gave no answer: the reference's own sentence."""
        del kind
        return f"All providers failed for model '{model}': {reason}"

    def model_missing(self, model: str) -> str:
        """Say that there is no such model."""
        return self.describe_failure(model, "Model not found")

    def provider_missing(self, provider: str, model: str) -> str:
        """Say that no such provider has the model."""
        return self.describe_failure(model, f"Provider '{provider}' not found")

    def context_exceeded(self, model: str, too_long: str, kind: str) -> ServiceError:
        """Say that a prompt doesn't fit, in OpenAI's form."""
        del model, kind
        error = {"message": too_long, "type": "invalid_request_error", "param": "messages"}
        body = {"error": {**error, "code": "context_length_exceeded"}}
        return ServiceError(400, too_long, body=body)

    def profiles_missing(self, missing: list[str], available: list[str]) -> Any:
        """Say that some of the router's ``models`` can't be routed to."""
        return f"No routing profile for {', '.join(missing)}; there are {', '.join(available)}"

    # Catalogue

    def providers(self, name: str) -> Any:
        """Form the list of a model's providers. Raises ServiceError: 404, for a model that doesn't exist."""
        model = MODELS.get(split_provider(name)[1])
        if model is None:
            raise ServiceError(404, self.model_missing(name))
        return [
            {"id": name, "type": "backup" if number else "primary", "enabled": True, "params": {}}
            for number, name in enumerate(model.providers)
        ]

    def _frame(self, head: Head, suffix: str = "") -> Json:
        base = "text_completion" if head.kind == "text" else f"chat.completion{suffix}"
        return {"id": head.id, "object": base, "model": head.model}

    def _routing(self, head: Head) -> Json:
        return {} if head.route is None else {"routing": head.route.as_documented()}

    def _chunk(self, head: Head, piece: Piece, extra: Json) -> Json:
        if head.kind == "text":
            content: Json = {"text": piece.delta.get("content", "")}
        else:
            content = {"delta": piece.delta}
        logprobs = {"logprobs": piece.logprobs} if piece.logprobs else {}
        choice = {"index": piece.index, **content, **logprobs, "finish_reason": piece.finish_reason}
        return {**self._frame(head, ".chunk"), "choices": [choice], **extra}


class Observed(Documented):
    """The hosted backend as it was observed."""

    name = "observed"
    id_prefixes: Mapping[str, str] = {"text": "cmpl_"}
    has_models = False
    reads_options = False
    router_takes_jwt = False
    router_without_key = (401, "Missing x-api-key header")
    router_with_bad_key = (403, "Unauthorized")
    done_after_error = True
    route_in_headers = True
    candidates_have_providers = False
    reads_any_type = False
    text_tokens = None
    direct_providers = frozenset(
        {"anthropic", "bedrock", "cerebras", "cohere", "deepseek", "gemini", "groq", "mistral"}
        | {"openai", "perplexity", "sambanova"}
    )
    tells_reasoning = False
    empty_is_text = True
    guards_unknown_paths = True

    bodies: Mapping[str, type[BaseModel]] = {
        "chat": requests.ObservedChatRequest,
        "text": requests.ObservedTextRequest,
        "router": requests.ObservedRouterRequest,
    }

    @override
    def decision(self, head: Head) -> Json:
        decision = self._routing(head)
        decision["routing"]["selected_provider"] = ""
        return {**self._frame(head), **decision, "choices": [], "usage": None}

    @override
    def usage(
        self, tokens: Tokens, costs: Mapping[str, float], latency: float, first: float
    ) -> Json:
        amounts = {name: costs.get(name) for name in COST_NAMES}
        return {**_counts(tokens), **amounts, "latency_ms": latency, "ttft_ms": first}

    @override
    def opening(self, head: Head, choices: int) -> Iterator[Json]:
        return iter(())

    @override
    def usage_style(self, options: Mapping[str, Any]) -> str:
        return "none"

    @override
    def error_event(self, head: Head, reason: str) -> Json:
        error = {"message": reason, "type": "error"}
        return {"id": head.id, "object": "error", "error": error}

    @override
    def describe_failure(self, model: str, reason: str, kind: str = "chat") -> str:
        if kind == "router":
            return f"Model execution failed: {reason}"
        return super().describe_failure(model, reason)

    @override
    def model_missing(self, model: str) -> str:
        name = split_provider(model)[1]
        return f"Model '{name}' not found (expected {name}.yaml)."

    @override
    def provider_missing(self, provider: str, model: str) -> str:
        return f"Provider '{provider}' not found for model '{model}'"

    @override
    def context_exceeded(self, model: str, too_long: str, kind: str) -> ServiceError:
        reason = provider_error("context", model, too_long=too_long)
        return ServiceError(502, self.describe_failure(model, reason, kind))

    @override
    def profiles_missing(self, missing: list[str], available: list[str]) -> Any:
        return {
            "error": "Models without profiles",
            "code": "MISSING_PROFILES",
            "missing_profiles": missing,
            "available_profiles": available,
        }

    @override
    def providers(self, name: str) -> Any:
        if name not in MODELS:  # Also one with a provider's prefix.
            raise ServiceError(404, f"Model '{name}' not found.")
        return [
            {
                "id": provider,
                "type": provider if provider == "bedrock" else f"{provider}_litellm",
                "enabled": True,
                "params": {"model_name": name},
            }
            for provider in MODELS[name].providers
        ]

    @override
    def _frame(self, head: Head, suffix: str = "") -> Json:
        base = "text_completion" if head.kind == "text" else "chat.completion"
        return {"id": head.id, "object": f"{base}{suffix}", "model": head.model}

    @override
    def _routing(self, head: Head) -> Json:
        if head.route is None:
            return {}
        return {"routing": {**head.route.as_documented(), "all_scores": dict(head.route.scores)}}

    @override
    def _chunk(self, head: Head, piece: Piece, extra: Json) -> Json:
        frame = self._frame(head, ".chunk")
        if head.kind == "text" and piece.finish_reason is None:
            content: Json = {"text": piece.delta.get("content", "")}
        else:  # A text stream, too, ends with a chat chunk.
            content = {"delta": piece.delta}
            frame["object"] = "chat.completion.chunk"
        choice = {"index": piece.index, **content, "finish_reason": piece.finish_reason}
        return {**frame, "choices": [choice], **extra}


def _counts(tokens: Tokens) -> Json:
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "total_tokens": tokens.prompt + tokens.completion,
    }


DIALECTS: Mapping[str, Documented] = {"documented": Documented(), "observed": Observed()}
