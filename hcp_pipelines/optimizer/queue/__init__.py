"""The queue of customers' work as the optimizer sees it: read, placed, valued, and made into steps of a policy."""
