"""Dagster jobs: thin."""
