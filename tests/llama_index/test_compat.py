"""Each private name of LlamaIndex and OpenInference that is used is there, and means what it is taken for.

Run on the lowest and the newest versions: where one of these fails, ``compat.py`` says what is lost without the name.
"""

from __future__ import annotations

import ast
import logging
from importlib.metadata import version
from pathlib import Path

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.prompts import PromptTemplate
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.base import BaseEvent

import llama_index_lunar
from llama_index_lunar import LunarLLM, LunarUsageEvent, compat
from lunar_core import observing
from tests.llama_index.support import WEATHER, user

PACKAGE = Path(llama_index_lunar.__file__).parent


def test_extend_messages_puts_the_system_prompt_first():
    llm = LunarLLM("gpt-4o", api_key="k", system_prompt="Only facts")
    roles = [message.role.value for message in compat.extend_messages(llm, user("hi"))]
    assert roles == ["system", "user"]


def test_extend_prompt_adds_system_prompt_and_query_wrapper():
    llm = LunarLLM(
        "gpt-4o",
        api_key="k",
        system_prompt="Facts",
        query_wrapper_prompt=PromptTemplate("<{query_str}>"),
    )
    assert compat.extend_prompt(llm, "hi") == "<Facts\n\nhi>"


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")
async def test_the_agent_whose_step_runs_is_known_by_name(llm):
    names = []

    class Watch:
        def before(self, call):
            names.append(compat.current_agent())

        def after(self, outcome):
            """Nothing to see."""

    assert compat.current_agent() is None
    with observing(Watch()):
        await FunctionAgent(name="reporter", tools=[WEATHER], llm=llm).run("Weather in Paris?")
    assert set(names) == {"reporter"}


@pytest.fixture
def openinference():
    pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    instrumentor = LlamaIndexInstrumentor()
    instrumentor.instrument(tracer_provider=TracerProvider())
    yield
    instrumentor.uninstrument()


@pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecationWarning")
def test_openinferences_span_of_a_call_is_found_and_takes_attributes(openinference, llm):
    found = []

    class Finder(llama_index_lunar.LunarCostHandler):
        def handle(self, event, **kwargs):
            if event.span_id and event.class_name() == "LLMChatStartEvent":
                found.append(compat.find_openinference_span(event.span_id))

    finder = Finder()
    get_dispatcher().add_event_handler(finder)
    try:
        llm.chat(user("Say hi"))
    finally:
        finder.close()
    (span,) = found
    assert compat.otel_span_of(span).name == "LunarLLM.chat"
    span["a"] = 1
    # Not so the lowest version that we allow: there, query engines' streams are for us to keep.
    major, minor, *_ = version("openinference-instrumentation-llama-index").split(".")
    assert compat.openinference_reads_streams() is ((int(major), int(minor)) > (4, 3))
    assert compat.find_openinference_span("nobody's") is None


def test_without_openinference_there_is_none():
    assert not compat.openinference_reads_streams()


class OtherEvent(BaseEvent):
    """An event that is not ours."""


def test_only_the_warning_of_the_event_is_kept_from_openinferences_log(openinference, caplog):
    logger = logging.getLogger("openinference.instrumentation.llama_index._handler")
    with compat.without_openinference_warning(LunarUsageEvent):
        logger.warning("Unhandled event of type %s", LunarUsageEvent.__name__)
        logger.warning("Unhandled event of type %s", OtherEvent.__name__)
    logger.warning("Unhandled event of type %s", LunarUsageEvent.__name__)
    assert [record.args[0] for record in caplog.records] == ["OtherEvent", "LunarUsageEvent"]
    assert logger.filters == []


OWN_HOOKS = {
    "_prepare_chat_with_tools",  # what FunctionCallingLLM has its subclasses write
    "_validate_chat_with_tools_response",
}


@pytest.mark.parametrize(
    "path", sorted(set(PACKAGE.glob("*.py")) - {PACKAGE / "compat.py"}), ids=lambda path: path.name
)
def test_private_names_of_others_are_used_in_compat_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    private = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    }
    assert private - OWN_HOOKS == set()
