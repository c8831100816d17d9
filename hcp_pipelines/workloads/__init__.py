"""Customers' work: what it is, who waits for whom, and what becomes of it. Where it runs is decided elsewhere."""
