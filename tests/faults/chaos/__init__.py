"""Process chaos: faults on the running platform, and the judgement afterwards (docs/reliability.md)."""
