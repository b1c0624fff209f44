"""One call of the client: the keywords of ``create()``, and how its answer is converted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from llama_index_lunar.tools import tool_name

JSONObject = dict[str, Any]
A = TypeVar("A", bound=ChatResponse | CompletionResponse)


@dataclass(frozen=True)
class ClientCall(Generic[A]):
    """One call of the client. ``params``: the keywords of ``create()``.

    ``is_chat``: chat/completions, else completions. ``convert``: makes the response type of LlamaIndex's endpoint of
    either response. ``route``: an earlier decision of the router that this call keeps to. ``own_names``: the original
    name of each tool that is sent under another name.
    """

    params: JSONObject
    is_chat: bool
    convert: Callable[[ChatResponse | CompletionResponse], A]
    route: JSONObject | None = None
    own_names: Mapping[str, str] = field(default_factory=dict)

    def resource(self, client: Any) -> Any:  # a Lunar or an AsyncLunar: the same names in both
        """The resource of ``client`` whose ``create()`` is called."""
        return client.chat.completions if self.is_chat else client.completions

    @property
    def forced_tools(self) -> list[str]:
        """The tools of which one must be called; empty if the model may answer in words."""
        choice = self.params.get("tool_choice")
        if choice == "required":
            names = [tool_name(tool) for tool in self.params.get("tools") or ()]
        elif isinstance(choice, Mapping):
            names = [tool_name(choice)]
        else:
            names = []
        return [self.own_names.get(name, name) for name in names if name]
