"""Clients of the outside APIs, one module a source."""
