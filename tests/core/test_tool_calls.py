"""Tool calls in pieces, by every upstream's habit: cut anywhere, they are the calls that a plain answer holds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lunar_core.wire import answers
from lunar_core.wire.tool_calls import ToolCallAssembler, settle_arguments

NAMES = st.text("abcdefg_", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(
    NAMES, st.text(max_size=6) | st.just('}{"\\') | st.lists(st.integers(), max_size=2), max_size=3
)
CALLS = st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=3)


@st.composite
def cut(draw, text):
    """A text in one to four pieces, none of them empty."""
    places = sorted(draw(st.sets(st.integers(1, max(1, len(text) - 1)), max_size=3)))
    ends = zip([0, *places], [*places, len(text)], strict=True)
    return [text[start:end] for start, end in ends if text[start:end]]


def piece(index=None, call_id=None, name=None, arguments=None, **more):
    function = {"name": name, "arguments": arguments}
    marks = {"index": index, "id": call_id}
    whole = {**marks, "function": {k: v for k, v in function.items() if v is not None}, **more}
    return {key: value for key, value in whole.items() if value is not None}


# Each habit: the position, id, name and arguments of a call, and the arguments' text in pieces → its deltas.


def as_openai_does(place, call_id, name, texts):
    return [piece(place, call_id, name, ""), *(piece(place, arguments=text) for text in texts)]


def with_the_id_in_each_piece(place, call_id, name, texts):
    first, *others = texts
    return [
        piece(place, call_id, name, first),
        *(piece(place, call_id, arguments=text) for text in others),
    ]


def with_id_and_name_in_each_piece(place, call_id, name, texts):
    return [piece(place, call_id, name, text) for text in texts]


def all_numbered_0(place, call_id, name, texts):
    return as_openai_does(0, call_id, name, texts)


def all_numbered_0_without_ids(place, call_id, name, texts):
    first, *others = texts
    return [piece(0, None, name, first), *(piece(0, arguments=text) for text in others)]


def without_numbers(place, call_id, name, texts):
    return as_openai_does(None, call_id, name, texts)


def with_the_name_in_pieces(place, call_id, name, texts):
    first, rest = name[:1], name[1:]
    if first == rest:  # the same twice is a name that is repeated
        first, rest = name, ""
    begun = [piece(place, call_id, first, ""), piece(place, name=rest or None)]
    return [*begun, *(piece(place, arguments=text) for text in texts)]


def with_an_empty_object_first(place, call_id, name, texts):
    return [
        piece(place, call_id, name, "{}"),
        *(piece(place, arguments=text) for text in texts if texts != ["{}"]),
    ]


def with_the_whole_once_more_at_the_end(place, call_id, name, texts):
    return [*as_openai_does(place, call_id, name, texts), piece(place, arguments="".join(texts))]


def with_the_id_late(place, call_id, name, texts):
    first, *others = texts
    return [
        piece(place, None, name, first),
        *(piece(place, arguments=text) for text in others),
        piece(place, call_id),
    ]


def with_arguments_as_an_object(place, call_id, name, texts):
    return [piece(place, call_id, name, json.loads("".join(texts)))]


def in_one_delta_without_ids(place, call_id, name, texts):
    return [piece(0, "", name, "".join(texts))]


HABITS = {
    habit.__name__.replace("_", " "): habit
    for habit in (
        as_openai_does,
        with_the_id_in_each_piece,
        with_id_and_name_in_each_piece,
        all_numbered_0,
        all_numbered_0_without_ids,
        without_numbers,
        with_the_name_in_pieces,
        with_an_empty_object_first,
        with_the_whole_once_more_at_the_end,
        with_the_id_late,
        with_arguments_as_an_object,
        in_one_delta_without_ids,
    )
}
WITHOUT_IDS = {all_numbered_0_without_ids, in_one_delta_without_ids}


def put_together(deltas):
    """What the parts add up to, as a framework that adds up strings sees them; and the calls at the end."""
    assembler, parts = ToolCallAssembler(), []
    for delta in deltas:
        parts += assembler.feed(delta)
    parts += assembler.finish("chatcmpl-1")
    sums = {}
    for part in parts:
        call = sums.setdefault(part.number, {"id": [], "name": "", "arguments": ""})
        call["id"] += [part.id] if part.id else []
        call["name"] += part.name or ""
        call["arguments"] += part.arguments or ""
    return [sums[number] for number in sorted(sums)], assembler.calls()


@pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS)
@given(calls=CALLS, data=st.data())
def test_pieces_by_any_habit_are_the_calls_that_were_meant(habit, calls, data):
    deltas, meant = [], []
    for place, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        call_id = f"call_{place}"
        own = habit(place, call_id, name, data.draw(cut(text)))
        deltas += [[entry] for entry in own]
        meant.append((None if habit in WITHOUT_IDS else call_id, name, arguments))
    if habit is in_one_delta_without_ids:
        deltas = [[entry for delta in deltas for entry in delta]]
    sums, whole = put_together(deltas)
    read = [(c["id"], c["function"]["name"], json.loads(c["function"]["arguments"])) for c in whole]
    assert [(name, arguments) for _, name, arguments in read] == [call[1:] for call in meant]
    assert all(stated in (None, call[0]) for (stated, *_), call in zip(meant, read, strict=True))
    assert len({call[0] for call in read}) == len(read)
    assert [(call["id"], call["name"], call["arguments"]) for call in sums] == [
        ([c["id"]], c["function"]["name"], c["function"]["arguments"]) for c in whole
    ]


@given(CALLS, st.none() | st.just("chatcmpl-1"))
def test_an_id_that_is_made_up_is_the_same_plain_and_streamed(calls, answer_id):
    functions = [{"name": name, "arguments": json.dumps(args)} for name, args in calls]
    entries = [{"type": "function", "function": function} for function in functions]
    body = {"id": answer_id, "choices": [{"message": {"tool_calls": entries}}]}
    plain = answers.read_chat(json.dumps(body).encode()).choices[0].message.tool_calls
    assembler = ToolCallAssembler()
    for place, entry in enumerate(entries):
        assembler.feed([{"index": place, **entry}])
    assembler.finish(answer_id)
    assert [call.id for call in plain] == [call["id"] for call in assembler.calls()]
    assert len({call.id for call in plain}) == len(plain)


def test_an_id_that_two_calls_share_is_the_first_ones_plain_and_streamed():
    function = {"name": "f", "arguments": '{"a": 1}'}
    entries = [{"id": "f", "type": "function", "function": function}] * 2
    body = {"id": "a1", "choices": [{"message": {"tool_calls": entries}}]}
    plain = answers.read_chat(json.dumps(body).encode()).choices[0].message.tool_calls
    pieces = [[{"index": n, **entry}] for n, entry in enumerate(entries)]
    assembler = ToolCallAssembler()
    parts = [part for piece in pieces for part in assembler.feed(piece)]
    parts += assembler.finish("a1")
    assert [call.id for call in plain] == [call["id"] for call in assembler.calls()]
    assert [part.id for part in parts if part.id] == [call.id for call in plain]
    assert (plain[0].id, plain[1].id == "f") == ("f", False)


def test_half_a_call_stays_half():
    _, (call,) = put_together([[piece(0, "c1", "rm", '{"path": "/home/u')]])
    assert call["function"]["arguments"] == '{"path": "/home/u'


def test_arguments_with_a_bracket_too_many_are_kept_as_they_are_so_that_nothing_runs_on_them():
    _, (call,) = put_together([[piece(0, "c1", "f", '{"a": 1}')], [piece(0, arguments="}")]])
    assert call["function"]["arguments"] == '{"a": 1}}'


@pytest.mark.parametrize("arguments", ["null", "{}", "{}\n"])
def test_no_arguments_are_an_empty_object_plain_and_streamed(arguments):
    sums, (call,) = put_together([[piece(0, "c1", "f", arguments)]])
    assert (call["function"]["arguments"], sums[0]["arguments"]) == ("{}", "{}")
    assert settle_arguments(arguments) == "{}"


def test_space_before_arguments_is_none_of_them():
    sums, (call,) = put_together([[piece(0, "c1", "f", " \n")], [piece(0, arguments=' {"a": 1}')]])
    assert call["function"]["arguments"] == sums[0]["arguments"] == '{"a": 1}'
    assert settle_arguments(" ") == ""


def test_a_piece_that_says_nothing_begins_no_call():
    _, calls = put_together([[piece(0, "c1", "f", "{}"), piece(1, arguments=""), {}]])
    assert [call["id"] for call in calls] == ["c1"]


@pytest.mark.parametrize("odd", [False, 5, ["a"]])
def test_arguments_of_another_type_are_text_and_the_answer_around_them_stays(odd):
    call = {"id": "c1", "function": {"name": "f", "arguments": odd}}
    body = {"choices": [{"message": {"content": "Hi", "tool_calls": [call, "g"]}}]}
    message = answers.read_chat(json.dumps(body).encode()).choices[0].message
    assert message.content == "Hi"
    assert [call.function.arguments for call in message.tool_calls] == [json.dumps(odd)]


def test_a_repetition_that_is_written_otherwise_is_a_repetition():
    _, (call,) = put_together([[piece(0, "c1", "f", '{"a": 1}')], [piece(0, arguments='{"a":1}')]])
    assert call["function"]["arguments"] == '{"a": 1}'


def test_two_calls_of_one_tool_under_one_number_are_two_though_the_second_begins_empty():
    first = [piece(0, None, "f", ""), piece(0, arguments='{"a": 1}')]
    second = [piece(0, None, "f", ""), piece(0, arguments='{"a": 2}')]
    _, calls = put_together([[entry] for entry in first + second])
    assert [call["function"]["arguments"] for call in calls] == ['{"a": 1}', '{"a": 2}']
    assert {call["function"]["name"] for call in calls} == {"f"}


def test_a_custom_call_is_kept_with_its_free_text():
    deltas = [
        [{"index": 0, "id": "c1", "type": "custom", "custom": {"name": "run", "input": "pri"}}],
        [{"index": 0, "custom": {"input": "nt(1)"}}],
    ]
    sums, (call,) = put_together(deltas)
    assert call == {"id": "c1", "type": "custom", "custom": {"name": "run", "input": "print(1)"}}
    assert sums == [{"id": ["c1"], "name": "run", "arguments": "print(1)"}]


def test_fields_beside_the_known_ones_stay_on_the_call_and_on_its_function():
    signed = piece(0, "c1", "f", '{"a"', extra_content={"google": {"thought_signature": "S"}})
    signed["function"]["thought"] = "T"
    _, (call,) = put_together([[signed], [piece(0, arguments=": 1}", provider="x")]])
    assert call["extra_content"] == {"google": {"thought_signature": "S"}}
    assert (call["provider"], call["function"]["thought"]) == ("x", "T")


def test_a_type_that_is_not_known_stays():
    _, (call,) = put_together([[piece(0, "c1", "$web_search", "{}", type="builtin_function")]])
    assert (call["type"], call["function"]["name"]) == ("builtin_function", "$web_search")


@given(
    st.lists(
        st.lists(
            st.none()
            | st.integers()
            | st.dictionaries(
                st.sampled_from(["index", "id", "function", "custom", "type"]),
                st.none()
                | st.integers()
                | st.text(max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "arguments", "input"]),
                    st.none() | st.integers() | st.text(max_size=3),
                ),
            )
        )
    )
)
def test_no_piece_is_too_odd(deltas):
    sums, calls = put_together(deltas)
    assert len(sums) == len(calls)
