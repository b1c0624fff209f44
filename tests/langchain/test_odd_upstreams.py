"""What odd upstreams send is read in LangChain as it was meant, plain and streamed."""

from tests.upstreams import each_habit


@each_habit
def test_an_odd_answer_is_read_as_it_was_meant(habit, scripted, fault_server, way):
    fault_server.script(habit.reply(streamed=False))
    check(way.invoke(scripted(), "x"), habit)


@each_habit
def test_an_odd_stream_is_read_as_it_was_meant(habit, scripted, fault_server, way):
    fault_server.script(habit.reply(streamed=True))
    check(way.streamed(scripted(), "x"), habit)


def check(message, habit):
    metadata, tokens = message.response_metadata, message.usage_metadata
    assert message.text == habit.text
    assert message.additional_kwargs.get("reasoning_content", "") == habit.reasoning
    assert (metadata["id"], metadata["model_name"]) == ("a1", "m-1")
    assert metadata.get("total_cost_usd") == habit.cost
    counted = tuple(count or 0 for count in habit.tokens)  # LangChain counts in whole numbers alone
    assert (tokens["input_tokens"], tokens["output_tokens"]) == counted
    calls = [(call["id"], call["name"], call["args"]) for call in message.tool_calls]
    assert calls == ([] if habit.call_id is None else [(habit.call_id, "f", {"a": 1})])
    assert not message.invalid_tool_calls
    assert metadata["finish_reason"] == ("stop" if habit.call_id is None else "tool_calls")
