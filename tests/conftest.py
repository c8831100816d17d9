"""Fixtures for all tests, and how they are shared out when several processes run them (`make test`: two)."""

import pytest

pytest_plugins = ["tests.support.postgres", "tests.support.sharing"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The platform's tests first: they take longest, and mostly wait."""
    items.sort(key=lambda item: item.get_closest_marker("platform") is None)
