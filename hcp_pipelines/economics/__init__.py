"""Formulas of revenue, cost and switching: pure functions over floats and polars columns. No storage, no decisions."""
