"""Fixtures for all tests, and how they are shared out when several processes run them (`tests/support/sharing.py`)."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# Before anything loads gRPC: a test's process holds its servers and clients, and starts other programs too (a Postgres under
# another account). gRPC's handlers of a fork end or hang the new process before it has become the other program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ["tests.support.postgres", "tests.support.sharing", "tests.support.own_time"]

# An example is not wrong for being slow on a machine that has other work.
settings.register_profile("hcp", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hcp")


# As the platform's daemons look for garbage: with Python's own numbers that was a tenth of the CPU of some tests.
SELDOM = (10_000, 20, 100)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays: looking for garbage in it took seven of a process's sixteen seconds of CPU."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*SELDOM)
        gc.enable()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a command configures in a test's process is not the next test's: it may have left a level that hides warnings."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def no_instance_left() -> Iterator[None]:
    """An instance of Dagster that a sensor's context entered once more stays the process's, and may be gone by the next test."""
    yield
    if said := sys.modules.get("dagster._core.storage.defs_state.base"):
        said._current_storage.set(None)
