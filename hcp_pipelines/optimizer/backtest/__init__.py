"""Back-test: strategies on recorded prices against the optimum of perfect foresight, in dollars (DESIGN §10)."""
