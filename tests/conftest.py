"""Fixtures for all tests, and how they are shared out when several processes run them (`make test`: two)."""

import pytest

pytest_plugins = ["tests.support.postgres"]


@pytest.hookimpl(tryfirst=True)  # before the groups are read
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole files go to one process; the platform's tests, which take longest and mostly wait, to one and first."""
    for item in items:
        is_platform = item.get_closest_marker("platform") is not None
        item.add_marker(pytest.mark.xdist_group("platform" if is_platform else item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: item.get_closest_marker("platform") is None)
