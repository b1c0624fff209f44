"""A value for each field of ChatLunar that is sent under its own name."""

SENT = {
    "temperature": 0.3,
    "max_tokens": 50,
    "top_p": 0.9,
    "stop": ["END"],
    "n": 2,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.2,
    "seed": 7,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"50256": -100.0},
    "reasoning_effort": "low",
    "user": "u1",
    "provider": "openai",
}
