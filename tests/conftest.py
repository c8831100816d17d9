"""Fixtures for all tests, and how they are shared out when several processes run them.

`make test`: two. A third makes platforms start so late that replayed prices have passed.
"""

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ["tests.support.postgres", "tests.support.sharing"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The platform's tests first: they take longest, and mostly wait."""
    items.sort(key=lambda item: item.get_closest_marker("platform") is None)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a command configures in a test's process is not the next test's: it may have left a level that hides warnings."""
    yield
    structlog.reset_defaults()
