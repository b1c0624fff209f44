"""What calls cost: entries, sums, and later budgets and reports. Money is Decimal here, and unknown is None."""
