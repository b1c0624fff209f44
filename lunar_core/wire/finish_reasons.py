"""What a ``finish_reason`` means. Providers have values of their own, which gateways pass on unchanged. Pure.

Upper and lower case count as the same, because Gemini writes its values in capitals.
"""

from __future__ import annotations

_OF_TOKEN_LIMITS = frozenset(
    {
        "length",
        "max_output_tokens",
        "max_tokens",  # Anthropic, Gemini, Cohere
        "model_context_window_exceeded",  # Anthropic
        "model_length",  # Mistral
        "error_limit",  # Cohere
    }
)
_OF_FILTERS = frozenset(
    {
        "content_filter",
        "refusal",  # Anthropic
        *("content_filtered", "guardrail_intervened"),  # Bedrock
        *(
            "blocklist",
            "image_prohibited_content",
            "image_recitation",
            "image_safety",
            "prohibited_content",
            "recitation",
            "safety",
            "spii",
        ),  # Gemini
        "error_toxic",  # Cohere
        "sensitive",  # GLM
    }
)
_OF_FAILURES = frozenset(
    {
        "error",
        "abort",  # vLLM, SGLang
        "insufficient_system_resource",  # DeepSeek
        *("malformed_function_call", "malformed_response", "unexpected_tool_call"),  # Gemini
        *("malformed_model_output", "malformed_tool_use"),  # Bedrock
        "network_error",  # GLM
    }
)


def is_token_limit(finish_reason: object) -> bool:
    """Whether the answer reached a token limit, so that its content may be incomplete.

    >>> is_token_limit("length"), is_token_limit("MAX_TOKENS"), is_token_limit("stop")
    (True, True, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _OF_TOKEN_LIMITS


def is_withheld(finish_reason: object) -> bool:
    """Whether the model refused to answer, or a filter withheld the answer.

    >>> is_withheld("content_filter"), is_withheld("SAFETY"), is_withheld(None)
    (True, True, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _OF_FILTERS


def is_failure(finish_reason: object) -> bool:
    """Whether the provider failed and there is no answer, so that a retry may help.

    >>> is_failure("error"), is_failure("MALFORMED_FUNCTION_CALL"), is_failure("tool_calls")
    (True, True, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _OF_FAILURES
