"""What assets, sensors and jobs are given: the settings, a Postgres connection and the clock of this platform.

A code location gives every resource as `fixed`: whoever launches a run may configure the others, which for dbt is the program
that is run and for Dagster's own IO manager the folder whose pickles are loaded, and the UI has no login.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role


class Platform(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The running platform. `state_dir` is for tests; it comes from the environment otherwise."""

    state_dir: str = ""

    def settings(self) -> Settings:
        """The settings of this process."""
        return Settings.load(state_dir=Path(self.state_dir) if self.state_dir else None)

    def clock(self) -> SystemClock:
        """Simulated time, or real time where there is no anchor."""
        return read_clock(self.settings())

    @contextmanager
    def connection(self) -> "Iterator[psycopg.Connection[Any]]":
        """A connection with the rights of the optimizer, for the time of one call."""
        with connect(self.settings(), Role.CONTROL) as connection:
            yield connection


def fixed(resource: object) -> dg.ResourceDefinition:
    """A resource that no run's configuration can change."""
    if isinstance(resource, dg.ConfigurableIOManager):
        return dg.IOManagerDefinition.hardcoded_io_manager(resource)
    return dg.ResourceDefinition.hardcoded_resource(resource)
