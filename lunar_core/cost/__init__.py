"""What calls cost: entries, totals, budgets and reports. Money is Decimal here, and unknown is None."""
