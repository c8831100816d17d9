"""A facility's day as it is settled: who was in which state for how long, what that earned, and what each switch was worth."""
