"""A service whose first answer is a failure that it bills, and whose second is whole."""

from decimal import Decimal

from tests.faults_steps import DONE, chunk, completion, reply, sse

_OF_FAILURE = {"prompt_tokens": 3, "completion_tokens": 0, "total_cost_usd": 0.1}
_OF_ANSWER = {"prompt_tokens": 3, "completion_tokens": 2, "total_cost_usd": 0.2}
_FAILURE = {"error": {"code": 502, "message": "died"}, "choices": [], "usage": _OF_FAILURE}

FAILURE = reply(json=_FAILURE)
SCRIPTS = {
    "plain": [FAILURE, reply(json=completion("Hello", usage=_OF_ANSWER))],
    "streamed": [sse(_FAILURE), sse(chunk("Hello"), chunk(finish="stop", usage=_OF_ANSWER), DONE)],
}
FAILURE_COST, ANSWER_COST, COST = Decimal("0.1"), Decimal("0.2"), Decimal("0.3")
STEPS = {"a retry": {"max_retries": 1}, "a fallback": {"max_retries": 0, "fallbacks": ["n"]}}
"""Settings by which the second answer comes about."""
