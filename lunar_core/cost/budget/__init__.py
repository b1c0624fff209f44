"""Budgets: limits on spending. Letting a call through and reserving its amount are one atomic step."""

from lunar_core.cost.budget.budget import Budget
from lunar_core.cost.budget.words import BudgetState

__all__ = ["Budget", "BudgetState"]
