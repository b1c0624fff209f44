"""langchain-core's manners: what is used of its private names is there, and importing changes nothing of its own."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
import typing

import pytest
from pydantic import BaseModel

import langchain_lunar
from langchain_lunar import ChatLunar, middleware, migration
from langchain_lunar.compat import PRIVATE_NAMES
from langchain_lunar.keywords import ChatKeywords, CommonKeywords

IMPORTS = """
import copy, importlib
module = importlib.import_module("langchain_core.load.load")
def state():
    return dict(module.ALL_SERIALIZABLE_MAPPINGS), copy.copy(getattr(module, "_default_class_paths_cache", {}))
before = state()
import langchain_lunar
[getattr(langchain_lunar, name) for name in langchain_lunar.__all__]
langchain_lunar.ChatLunar(model="m", api_key="pk_test")
print(state() == before)
"""


def find(path):
    """The module or class at a path."""
    module, _, name = path.rpartition(".")
    return (
        getattr(importlib.import_module(module), name)
        if name[0].isupper()
        else importlib.import_module(path)
    )


@pytest.mark.parametrize(
    ("owner", "name"), [(owner, name) for owner, names in PRIVATE_NAMES.items() for name in names]
)
def test_a_private_name_that_is_used_is_there(owner, name):
    assert hasattr(find(owner), name)


OWN_HOOKS = {
    *("_agenerate", "_astream", "_generate", "_stream"),
    *("_identifying_params", "_llm_type", "_type"),
}
"""What langchain-core has its subclasses write."""


def is_of_langchain(cls):
    return cls.__module__.partition(".")[0] in {"langchain", "langchain_core"}


MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(langchain_lunar.__path__, "langchain_lunar.")
]
OF_LANGCHAINS = {
    cls
    for module in MODULES
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if cls.__module__ == module.__name__ and any(is_of_langchain(base) for base in cls.__mro__)
}


@pytest.mark.parametrize("cls", sorted(OF_LANGCHAINS, key=str), ids=lambda cls: cls.__name__)
def test_no_other_private_name_of_langchains_is_called_or_overridden(cls):
    bases = [base for base in cls.__mro__ if is_of_langchain(base)]
    theirs = {name for base in bases for name in vars(base)} - {"_abc_impl"}  # Python's own
    tree = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    private = {
        name
        for name in theirs & (read | vars(cls).keys())
        if name.startswith("_") and not name.startswith("__")
    }
    assert private - OWN_HOOKS <= {name for names in PRIVATE_NAMES.values() for name in names}


def test_there_are_classes_to_look_at():
    assert {ChatLunar, langchain_lunar.LunarLLM, langchain_lunar.LunarRouterChain} <= OF_LANGCHAINS


def test_importing_and_making_a_model_changes_nothing_of_langchains():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "True\n"


# langchain-core asks for the types of methods at run time: with_fallbacks(…).bind_tools(…), say.

PUBLIC = [getattr(langchain_lunar, name) for name in langchain_lunar.__all__]
CLASSES = [value for value in PUBLIC if inspect.isclass(value)]
AGENTS = [getattr(middleware, name) for name in middleware.__all__]
FUNCTIONS = [value for value in PUBLIC if inspect.isfunction(value)]
METHODS = {
    f"{cls.__name__}.{name}": method
    for cls in [*CLASSES, *AGENTS]
    for name, method in inspect.getmembers(cls, inspect.isroutine)
    if not name.startswith("_")
    and (getattr(method, "__module__", None) or "").startswith("langchain_lunar")
}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_types_of_every_public_method_can_be_had(name):
    assert typing.get_type_hints(METHODS[name]) is not None


@pytest.mark.parametrize("value", [*CLASSES, *FUNCTIONS], ids=lambda value: value.__name__)
def test_the_types_of_every_exported_name_can_be_had(value):
    assert typing.get_type_hints(value) is not None


def test_fallbacks_take_tools_and_schemas_like_the_models_they_are_made_of(chat):
    safe = chat("gpt-4o!503").with_fallbacks([chat("gpt-4o-mini")])
    tools = safe.bind_tools([{"name": "multiply", "description": "Multiply", "parameters": {}}])
    schema = {
        "title": "City",
        "description": "A city",
        "type": "object",
        "properties": {"name": {"type": "string"}},
    }
    assert tools.invoke("hi").response_metadata["model_name"] == "gpt-4o-mini"
    assert safe.with_structured_output(schema).invoke("name = Lisbon") == {"name": "Lisbon"}


@pytest.mark.parametrize(
    ("cls", "keywords"), [(ChatLunar, ChatKeywords), (langchain_lunar.LunarLLM, CommonKeywords)]
)
def test_type_checkers_know_every_field_of_a_model_and_its_other_names(cls, keywords):
    other_names = {
        name for name in migration.OTHER_NAMES if migration.as_field(name) in cls.model_fields
    }
    assert set(keywords.__annotations__) == cls.model_fields.keys() | other_names


def test_every_field_of_every_exported_model_is_described():
    names = [getattr(langchain_lunar, name) for name in langchain_lunar.__all__]
    exported = [each for each in names if isinstance(each, type) and issubclass(each, BaseModel)]
    assert {ChatLunar, langchain_lunar.LunarLLM, langchain_lunar.LunarRouterChain} <= {*exported}
    undescribed = {
        f"{cls.__name__}.{name}"
        for cls in exported
        for name, field in cls.model_fields.items()
        if not field.description
    }
    assert undescribed == set()
