"""Demand response in the back-test of a mixed facility: the programme's terms, its calls, who obeys, and what it pays."""
