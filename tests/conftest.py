"""Fixtures for all tests, and how they are shared out when several processes run them.

`make test`: two. A third makes platforms start so late that replayed prices have passed.
"""

import os
from collections.abc import Iterator

import pytest
import structlog

# Before anything loads gRPC: a test's process holds its servers and clients, and starts other programs too (a Postgres under
# another account). gRPC's handlers of a fork end or hang the new process before it has become the other program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ["tests.support.postgres", "tests.support.sharing"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The platform's tests first: they take longest, and mostly wait."""
    items.sort(key=lambda item: item.get_closest_marker("platform") is None)


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a command configures in a test's process is not the next test's: it may have left a level that hides warnings."""
    yield
    structlog.reset_defaults()
