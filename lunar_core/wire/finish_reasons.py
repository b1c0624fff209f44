"""What a ``finish_reason`` means: providers have words of their own, which gateways pass on as they came. Pure.

Each is read in any case: Gemini writes its own in capitals.
"""

from __future__ import annotations

_OF_TOKEN_LIMITS = frozenset(
    {
        "length",
        "max_output_tokens",
        "max_tokens",  # Anthropic, Gemini, Cohere
        "model_context_window_exceeded",  # Anthropic
        "model_length",  # Mistral
    }
)
_OF_FILTERS = frozenset(
    {
        "content_filter",
        "refusal",  # Anthropic
        *("content_filtered", "guardrail_intervened"),  # Bedrock
        *(
            "blocklist",
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
        "insufficient_system_resource",  # DeepSeek
        *("malformed_function_call", "unexpected_tool_call"),  # Gemini
        *("malformed_model_output", "malformed_tool_use"),  # Bedrock
        "network_error",  # GLM
    }
)


def is_token_limit(finish_reason: object) -> bool:
    """Whether the answer ends because it may not be longer: whatever it holds may be half.

    >>> is_token_limit("length"), is_token_limit("MAX_TOKENS"), is_token_limit("stop")
    (True, True, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _OF_TOKEN_LIMITS


def is_withheld(finish_reason: object) -> bool:
    """Whether the model refused to answer, or a filter withheld what it said.

    >>> is_withheld("content_filter"), is_withheld("SAFETY"), is_withheld(None)
    (True, True, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _OF_FILTERS


def is_failure(finish_reason: object) -> bool:
    """Whether there is no answer, only the news that the provider has failed at one: worth another try.

    >>> is_failure("error"), is_failure("MALFORMED_FUNCTION_CALL"), is_failure("tool_calls")
    (True, True, False)
    """
    return isinstance(finish_reason, str) and finish_reason.lower() in _OF_FAILURES
