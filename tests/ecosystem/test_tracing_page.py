"""The tables of docs/howto/tracing.md say what the tests of this folder see, tool by tool."""

import re

from tests.ecosystem import test_langchain_tracers, test_llama_index_tracers, test_tracing
from tests.ecosystem.conftest import PROGRAMS, ROOT

PAGE = (ROOT / "docs/howto/tracing.md").read_text(encoding="utf-8")

HTTP_TOOLS = {
    "OpenTelemetry for httpx": "with_opentelemetry",
    "logfire (`instrument_httpx`)": "with_logfire",
    "Sentry": "with_sentry",
    "ddtrace": "with_ddtrace",
}
TRACERS = {
    "OpenInference for LangChain": ("langchain_with_spans", "openinference"),
    "OpenLLMetry for LangChain": ("langchain_with_spans", "openllmetry"),
    "Langfuse for LangChain": ("langchain_with_spans", "langfuse"),
    "mlflow for LangChain": ("langchain_with_mlflow",),
    "OpenInference for LlamaIndex": "llama_index_with_openinference",
    "mlflow for LlamaIndex": "llama_index_with_mlflow",
}


def rows(heading):
    """The table below a heading, without its head: the cells of each row by its first one."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines[2:]}


def test_a_tool_has_the_headers_that_were_seen_to_arrive():
    table = rows("What each tool shows")
    assert set(HTTP_TOOLS.values()) == set(test_tracing.HEADERS)
    for tool, program in HTTP_TOOLS.items():
        sees, headers, *model_and_cost = table[tool]
        assert sees == "a span per request"
        assert tuple(re.findall(r"`([\w-]+)`", headers)) == test_tracing.HEADERS[program]
        assert model_and_cost == ["–", "–"]


def test_a_tracer_has_the_model_and_the_bill_that_were_seen():
    table = rows("What each tool shows")
    tried = [*test_langchain_tracers.PROGRAMS, *test_llama_index_tracers.PROGRAMS]
    assert set(TRACERS.values()) == set(tried)
    assert table.keys() == {*HTTP_TOOLS, *TRACERS, "`lunar_core.otel.LunarTelemetry`"}
    for tool, program in TRACERS.items():
        early = program in test_llama_index_tracers.ENDED_TOO_EARLY
        assert table[tool][2:] == ["yes, but for async streams" if early else "yes"] * 2


def test_an_attribute_is_one_that_a_program_reads():
    programs = "".join(path.read_text(encoding="utf-8") for path in PROGRAMS.glob("*.py"))
    table = rows("Which attribute has it")
    for tool in ("OpenInference (Phoenix)", "OpenLLMetry", "mlflow"):
        model, bill = (re.findall(r"`([a-z][\w.]+)`", cell)[0] for cell in table[tool])
        assert f'"{model}"' in programs
        assert f'"{bill}"' in programs
