"""Every private name of langchain-core that is used here, so that a new version is checked in one place.

``tests/langchain/test_compat.py`` looks for each name, with the lowest and the newest version.
"""

from __future__ import annotations

import importlib
from typing import Any
from uuid import UUID

from langchain_core.load.serializable import (
    Serializable,
    SerializedConstructor,
    SerializedNotImplemented,
)

from lunar_core.bridge import without_functions

PRIVATE_NAMES = {
    "langchain_core.load.load": ("ALL_SERIALIZABLE_MAPPINGS",),
    "langchain_core.language_models.base.BaseLanguageModel": ("_add_version",),
    "langchain_core.language_models.chat_models.BaseChatModel": (
        "_check_profile_keys",
        "_combine_llm_outputs",
        "_get_invocation_params",
        "_get_llm_string",
        "_get_ls_params",
        "_resolve_model_profile",
        "_serialized",
    ),
    "langchain_core.language_models.llms.BaseLLM": ("_get_ls_params", "_serialized"),
    "langchain_core.output_parsers.transform.BaseCumulativeTransformOutputParser": (
        "_atransform",
        "_transform",
    ),
    "langchain_core.runnables.base.Runnable": (
        "_acall_with_config",
        "_atransform_stream_with_config",
        "_call_with_config",
        "_transform_stream_with_config",
    ),
}
"""The private names that are called or overridden, by their place. Not what langchain-core has its subclasses write."""


def allow_loading(cls: type[Serializable]) -> None:
    """Add ``cls`` to the classes of partners, which ``load(…, allowed_objects="all")`` allows.

    langchain-core has a closed list of them, and no public way to add to it. Done at the first dump of an object, so
    that importing changes nothing. ``allowed_objects=[ChatLunar]`` works without this.
    """
    # ``from langchain_core.load import load`` would be the function of that name.
    module = importlib.import_module("langchain_core.load.load")
    path = tuple(cls.lc_id())
    if path not in module.ALL_SERIALIZABLE_MAPPINGS:
        module.ALL_SERIALIZABLE_MAPPINGS[path] = path
        getattr(module, "_default_class_paths_cache", {}).pop("all", None)


def without_functions_in(
    dumped: SerializedConstructor | SerializedNotImplemented,
) -> SerializedConstructor | SerializedNotImplemented:
    """A dump without functions that return a number: those could not be loaded."""
    if dumped["type"] == "constructor":
        dumped["kwargs"] = without_functions(dumped["kwargs"])
    return dumped


def forget_serialized(model: Serializable) -> None:
    """Drop the dump that langchain-core keeps of ``model``.

    With it, langchain-core's caches would return answers of the former settings.
    """
    model.__dict__.pop("_serialized", None)


FIELD_DESCRIPTIONS = {
    "cache": "A cache of LangChain's for whole answers; True: the global one; False: none.",
    "callbacks": "Callback handlers of every run of this model.",
    "custom_get_token_ids": "A tokenizer to count with, in place of the estimate.",
    "disable_streaming": 'True: never stream; "tool_calling": not where tools are bound.',
    "metadata": "Metadata of every run of this model, for callbacks and tracers.",
    "name": "The name of the runs, in traces.",
    "output_version": 'The form of ``content``: "v0", or "v1" for lists of standard content blocks.',
    "profile": "What the model can take and give; looked up by its name where it is not given.",
    "rate_limiter": "A rate limiter of LangChain's, asked before each request.",
    "tags": "Tags of every run of this model, for callbacks and tracers.",
    "verbose": "Whether LangChain prints what is sent and what comes.",
}
"""Descriptions of langchain-core's own fields: its classes have none that a program can read."""


# The spans that tracers keep for a run. ``tests/ecosystem`` tries each beside the tracer itself.


def find_openinference_span(handler: Any, run_id: UUID) -> Any:
    """OpenInference's span of a run (a span of OpenTelemetry)."""
    return handler.get_span(run_id)


def find_openllmetry_span(handler: Any, run_id: UUID) -> Any:
    """OpenLLMetry's span of a run (a span of OpenTelemetry)."""
    return handler.spans[run_id].span


def find_langfuse_generation(handler: Any, run_id: UUID) -> Any:
    """Langfuse's generation of a run, with ``update()``."""
    return handler._runs[run_id]


def find_mlflow_span(handler: Any, run_id: UUID) -> Any:
    """Mlflow's span of a run, with ``set_attribute()``."""
    return handler._run_span_mapping[str(run_id)].span
