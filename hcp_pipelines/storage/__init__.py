"""Postgres (pool, roles, notify), migrations, the lake."""
