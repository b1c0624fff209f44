"""What odd upstreams send is read as it was meant, plain and streamed: no word, no call, no cost of it is lost."""

import json

from lunar_core import Ledger
from tests.upstreams import each_habit


@each_habit
def test_an_odd_answer_is_read_as_it_was_meant(habit, connect, way, fault_server):
    ledger = Ledger()
    fault_server.script(habit.reply(streamed=way.streamed))
    answer = way.ask(connect(fault_server, observers=[ledger]))
    choice = answer.choices[0]
    assert (choice.message.content or "") == habit.text
    assert (answer.id, answer.model) == ("a1", "m-1")
    assert (answer.usage.total_cost_usd, ledger.total.unpriced) == (habit.cost, habit.cost is None)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == habit.tokens
    calls = choice.message.tool_calls or []
    read = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in calls]
    assert read == ([] if habit.call_id is None else [(habit.call_id, "f", {"a": 1})])
    assert choice.finish_reason == ("stop" if habit.call_id is None else "tool_calls")
