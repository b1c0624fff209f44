"""Budgets: what may be spent, held in the same step that lets a call through."""

from lunar_core.cost.budget.budget import Budget
from lunar_core.cost.budget.words import BudgetState

__all__ = ["Budget", "BudgetState"]
