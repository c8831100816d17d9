"""Operators, what they order, and what waits for a second person. The allocator carries it out; screens are in `cli`."""
