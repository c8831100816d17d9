"""Fixtures for all tests, and how they are shared out when several processes run them (`make test`: two)."""

import pytest

pytest_plugins = ["tests.support.postgres"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """Whole files go to one process, the platform's tests all to one. (Later hooks come after the groups were read.)"""
    group = "platform" if item.get_closest_marker("platform") else item.nodeid.partition("::")[0]
    item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The platform's tests first: they take longest, and mostly wait."""
    items.sort(key=lambda item: item.get_closest_marker("platform") is None)
