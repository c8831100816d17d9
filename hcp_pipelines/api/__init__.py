"""The HTTP API (docs/api.md): `/api/v1/…` over what Postgres knows. It decides nothing and commands nothing."""
