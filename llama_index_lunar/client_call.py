"""One call of the client: what ``create()`` is given, and what its answer is made into."""

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
    """One call of the client: ``params`` are the keywords of ``create()``.

    ``is_chat``: of chat/completions, not of completions. ``convert``: makes the response that LlamaIndex's endpoint
    returns of either's. ``route``: an earlier decision of the router that this call keeps to. ``own_names``: of the
    tools that are sent under another name, the one they have here.
    """

    params: JSONObject
    is_chat: bool
    convert: Callable[[ChatResponse | CompletionResponse], A]
    route: JSONObject | None = None
    own_names: Mapping[str, str] = field(default_factory=dict)

    def resource(self, client: Any) -> Any:  # a Lunar or an AsyncLunar: the same names in both
        """What of ``client`` has the ``create()`` to call."""
        return client.chat.completions if self.is_chat else client.completions

    @property
    def forced_tools(self) -> list[str]:
        """The tools of which one must be called; none where the model may choose to answer in words."""
        choice = self.params.get("tool_choice")
        if choice == "required":
            names = [tool_name(tool) for tool in self.params.get("tools") or ()]
        elif isinstance(choice, Mapping):
            names = [tool_name(choice)]
        else:
            names = []
        return [self.own_names.get(name, name) for name in names if name]
