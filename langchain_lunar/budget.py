"""``LunarBudgetMiddleware``: what a LangChain agent may spend, in all and in each run.

Needs the extra ``agents``.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Annotated, Any, Literal, cast

from langchain_core.messages import AIMessage, ToolMessage
from typing_extensions import NotRequired

from lunar_core import Budget, BudgetExceededError, ConfigurationError, observing
from lunar_core.cost.amounts import checked_amount
from lunar_core.errors import describe_unexpected
from lunar_core.extras import install_command

try:
    from langchain.agents.middleware.types import (
        AgentMiddleware,
        AgentState,
        ModelRequest,
        ModelResponse,
        PrivateStateAttr,
        ToolCallRequest,
    )
    from langgraph.runtime import Runtime
    from langgraph.types import Command
except ImportError as error:
    raise ImportError(
        f"langchain_lunar.middleware needs langchain and langgraph: {install_command('agents')}"
    ) from error

ToolResult = ToolMessage | Command[Any]

_FIELDS = ("budget", "key", "unit", "limit", "spent", "held", "asked", "resets_at")
_REFUSAL = "lunar_budget"
"""The key under which a tool's message keeps the refusal that ends the run."""
_MOST_RUNS = 10_000
"""How many runs' budgets one middleware keeps, unfinished runs included."""


class LunarBudgetState(AgentState[Any]):
    """The agent's state, with a name for the run, by which its budget is found."""

    lunar_run: NotRequired[Annotated[str, PrivateStateAttr]]


class LunarBudgetMiddleware(AgentMiddleware[LunarBudgetState, Any, Any]):
    """Count what an agent's model and tools spend against budgets, and end the run when one refuses a call.

    ``budget``: shared by all runs. ``usd_per_run``: USD that each run may spend by itself, with its tools and
    sub-agents, through any client of Lunar. With neither, only budgets of the model's own end a run.

    ``exit_behavior``: "end" answers open tool calls and closes with an AIMessage that gives the reason, with the fields
    of the error as plain JSON in ``response_metadata["budget"]``. "error" raises BudgetExceededError. Raises
    ConfigurationError that names a setting that cannot work.

    >>> agent = create_agent(
    ...     ChatLunar(model="gpt-4o-mini"),
    ...     tools=[search],
    ...     middleware=[LunarBudgetMiddleware(usd_per_run="0.05")],
    ... )
    """

    state_schema = LunarBudgetState

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        usd_per_run: Decimal | str | float | None = None,
        exit_behavior: Literal["end", "error"] = "end",
    ) -> None:
        if budget is not None and not isinstance(budget, Budget):
            raise ConfigurationError(f"budget: expected a Budget{describe_unexpected(budget)}")
        if exit_behavior not in ("end", "error"):
            raise ConfigurationError(
                f"exit_behavior: expected 'end' or 'error', not {exit_behavior!r}"
            )
        self.budget = budget
        self.exit_behavior = exit_behavior
        self.usd_per_run = (
            None if usd_per_run is None else checked_amount(usd_per_run, "usd_per_run")
        )
        self._runs: OrderedDict[str, Budget] = OrderedDict()
        if self.usd_per_run is not None:
            self._new_budget(self.usd_per_run)

    def before_agent(self, state: LunarBudgetState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Give the run a name, by which its own budget is found."""
        return None if self.usd_per_run is None else {"lunar_run": uuid.uuid4().hex}

    def after_agent(self, state: LunarBudgetState, runtime: Runtime[Any]) -> None:
        """Forget the budget of a run that has ended."""
        self._runs.pop(state.get("lunar_run", ""), None)

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Call the model within the budgets."""
        refusal = _refusal_of_a_tool(request)
        if refusal is not None:
            return _closing(refusal)
        try:
            with self._observing(request.state):
                return handler(request)
        except BudgetExceededError as error:
            if self.exit_behavior == "error":
                raise
            return _closing(_fields(error))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Call the model within the budgets."""
        refusal = _refusal_of_a_tool(request)
        if refusal is not None:
            return _closing(refusal)
        try:
            with self._observing(request.state):
                return await handler(request)
        except BudgetExceededError as error:
            if self.exit_behavior == "error":
                raise
            return _closing(_fields(error))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]
    ) -> ToolResult:
        """Call a tool within the budgets."""
        try:
            with self._observing(request.state):
                return handler(request)
        except BudgetExceededError as error:
            if self.exit_behavior == "error":
                raise
            return _answer(request, error)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult:
        """Call a tool within the budgets."""
        try:
            with self._observing(request.state):
                return await handler(request)
        except BudgetExceededError as error:
            if self.exit_behavior == "error":
                raise
            return _answer(request, error)

    def _observing(self, state: Any) -> AbstractContextManager[None]:
        """A context in which the budgets count the calls of every client."""
        budgets = [] if self.budget is None else [self.budget]
        if self.usd_per_run is not None:
            run = cast("Mapping[str, Any]", state).get("lunar_run")
            budgets.append(self._budget_of(run, self.usd_per_run))
        return observing(*budgets)

    def _budget_of(self, run: str | None, usd: Decimal) -> Budget:
        if run is None:  # before_agent did not run, so nothing could find this budget later
            return self._new_budget(usd)
        budget = self._runs.setdefault(run, self._new_budget(usd))
        while len(self._runs) > _MOST_RUNS:
            self._runs.popitem(last=False)
        return budget

    def _new_budget(self, usd: Decimal) -> Budget:
        return Budget(usd, name="run", unpriced="allow", warn_at=None)


def _closing(refusal: Mapping[str, Any]) -> ModelResponse[Any]:
    """The message that ends a run: it calls no tool."""
    text = f"The run has ended here: {refusal['message']}"
    fields = {name: refusal[name] for name in _FIELDS}
    return ModelResponse(result=[AIMessage(text, response_metadata={"budget": fields})])


def _answer(request: ToolCallRequest, error: BudgetExceededError) -> ToolMessage:
    """The answer to a tool call that a budget refused."""
    call = request.tool_call
    return ToolMessage(
        f"Not done: {error.message}",
        tool_call_id=cast("str", call["id"]),
        name=call["name"],
        status="error",
        additional_kwargs={_REFUSAL: _fields(error)},
    )


def _refusal_of_a_tool(request: ModelRequest[Any]) -> Mapping[str, Any] | None:
    """The refusal of a budget that one of the last tools met; None without one."""
    for message in reversed(request.messages):
        if not isinstance(message, ToolMessage):
            return None
        refusal = message.additional_kwargs.get(_REFUSAL)
        if isinstance(refusal, Mapping):
            return refusal
    return None


def _fields(error: BudgetExceededError) -> dict[str, Any]:
    """The error as plain JSON: amounts of USD as strings, which lose no digit."""
    fields = {name: getattr(error, name) for name in _FIELDS}
    plain = {
        name: format(value, "f") if isinstance(value, Decimal) else value
        for name, value in fields.items()
    }
    return {**plain, "message": error.message}
