"""Dagster sensors: thin."""
