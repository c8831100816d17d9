"""The platform's life: Postgres, configuration, processes in order, watch, stop. One loop, one thread.

The thread matters: children are tied to the life of the thread that spawned them, and forking from a process
with other threads is a risk not worth taking.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

import httpx
import psycopg

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import ConfigError, HcpError
from hcp_pipelines.operators.users import FIRST_ADMIN, add_first_admin
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.storage.secrets import create_secret, secrets_dir
from hcp_pipelines.supervisor.anchor import note_reached, refuse_other_world, write_anchor
from hcp_pipelines.supervisor.child import State
from hcp_pipelines.supervisor.children import Children, Report, write_json
from hcp_pipelines.supervisor.configuration import Configuration
from hcp_pipelines.supervisor.dagster import dagster_specs, prepare_dagster
from hcp_pipelines.supervisor.database import postgres_spec
from hcp_pipelines.supervisor.fleet_watch import FleetWatch
from hcp_pipelines.supervisor.folders import prepare_folders
from hcp_pipelines.supervisor.lock import StateLock, refuse_busy_port
from hcp_pipelines.supervisor.processes import FLEET, daemon_specs, fleet_spec, world_spec
from hcp_pipelines.supervisor.watcher import Guardian

LOOP_S = 0.1
CHECK_S = 1.0
FLEET_CHECK_S = 3.0
START_WITHIN_S = 180.0


@dataclass
class Platform:
    """Everything that `hcp up` runs."""

    settings: Settings
    start_at: datetime | None = None
    report: Report = lambda _: None
    clock: SystemClock = field(default_factory=SystemClock)
    anchor: Anchor | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _is_started: bool = False
    children: Children = field(init=False)
    _fleet: FleetWatch = field(init=False)

    def __post_init__(self) -> None:
        """The fleet as the settings' database has it; no process yet."""
        self._fleet = FleetWatch(self.settings)
        self.children = Children(self.settings, self.clock, self.report)

    async def run(self, each_second: Callable[["Platform"], None] = lambda _: None) -> None:
        """Start everything, watch it until asked to stop, stop everything.

        Raises:
            AlreadyRunningError: the state directory or a port is taken.
            ConfigError: the state directory is open to others.
            HcpError: something could not start; the message says what and where its log is.
        """
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signal_number, self._stop.set)
        prepare_folders(self.settings)
        with StateLock(self.settings.at("run", "supervisor.lock")):
            self._write_status()  # what a killed supervisor left there is no longer so
            self.children.sweep()
            refuse_busy_port(self.settings.dagster_port, "HCP_DAGSTER_PORT", "the Dagster UI")
            with Guardian(self.children.pid_file) as watcher:
                try:
                    await self._start()
                    self._is_started = True
                    await self._watch(each_second)
                finally:
                    self.report("stopping")
                    self.children.stop_all()
                    self._write_status()
                    watcher.dismiss()

    async def _start(self) -> None:
        refuse_other_world(self.settings)
        if self.settings.database_url is None:
            self.report("starting PostgreSQL")
            self.children.add([postgres_spec(self.settings)])
            await self._until_ready(["postgres"])
        bootstrap(self.settings)
        self.report("PostgreSQL and the lake are ready")
        self._open_api()
        prepare_dagster(self.settings)
        first, later = dagster_specs(self.settings)
        self.children.add(first)
        self.report("Dagster is loading (20–30 s on two cores); the world's clock starts when it is there")
        await self._until_ready([spec.name for spec in first])
        configuration = self._fleet.begin(self._make_anchor)
        self.report(configuration.summary)
        world = [] if self.settings.world == "real" else [world_spec(self.settings)]
        self.children.add(world + daemon_specs(self.settings, configuration.gateways) + later)
        self._add_follower(configuration)

    def _open_api(self) -> None:
        """The API's first account, where there is none: a terminal is told its password once; a log never, but a file."""
        if self.settings.api == "off":
            return
        with connect(self.settings, Role.API) as connection:
            password = add_first_admin(connection, "hcp up")
        if password is None:
            return
        if sys.stdout.isatty():
            self.report(f"API: log in as {FIRST_ADMIN} with the password {password} (shown this once, kept nowhere)")
            return
        path = secrets_dir(self.settings) / "api_admin_password"
        create_secret(path, password)
        self.report(f"API: log in as {FIRST_ADMIN} with the password in {path}; delete the file then")

    def _make_anchor(self, begins_at: datetime | None) -> Anchor:
        self.anchor = write_anchor(self.settings, self.start_at, begins_at)
        return self.anchor

    async def _watch(self, each_second: Callable[["Platform"], None]) -> None:
        next_check_s = next_fleet_s = self.clock.monotonic_s()
        async with httpx.AsyncClient() as client:
            checking: asyncio.Task[None] | None = None
            while not self._stop.is_set():
                self.children.poll()
                now_s = self.clock.monotonic_s()
                if now_s >= next_check_s and (checking is None or checking.done()):
                    checking = asyncio.create_task(self.children.check(client))
                    next_check_s = now_s + CHECK_S
                    self._write_status()
                    each_second(self)
                if now_s >= next_fleet_s:
                    self._follow_fleet()
                    self.children.cut_logs()
                    next_fleet_s = now_s + FLEET_CHECK_S
                await self._pause(LOOP_S)
            if checking:
                checking.cancel()

    async def _until_ready(self, names: Iterable[str]) -> None:
        deadline_s = self.clock.monotonic_s() + START_WITHIN_S
        next_told_s = 0.0
        wanted = self.children.of(names)
        async with httpx.AsyncClient() as client:
            while any(c.state is not State.READY for c in wanted):
                await self.children.check(client)
                self.children.poll()
                if self.clock.monotonic_s() >= next_told_s:  # who asks meanwhile is told what is still loading
                    self._write_status()
                    next_told_s = self.clock.monotonic_s() + CHECK_S
                if self._stop.is_set():
                    raise HcpError("stopped before everything was up")
                if self.clock.monotonic_s() > deadline_s:
                    late = next(c for c in wanted if c.state is not State.READY)
                    raise HcpError(f"{late.spec.name} is not ready after {START_WITHIN_S:.0f} s: {late.reason}")
                await self._pause(LOOP_S)

    def _follow_fleet(self) -> None:
        """Give world and gateways the new fleet when a facility file, or a scan, was applied."""
        try:
            change = self._fleet.look(lambda _: self.anchor or self._make_anchor(None))
        except ConfigError as error:  # until another file is applied; the rest of the platform must not fall with it
            self.report(f"the fleet changed, and world and gateways go on with the one before: {error}")
            return
        except (HcpError, psycopg.Error):  # Postgres went away in between: again at the next look
            return
        if change is None:
            return
        self.report(f"the fleet changed: {change.configuration.summary}")
        self.children.restart(change.affected)
        self._add_follower(change.configuration)

    def _add_follower(self, configuration: Configuration) -> None:
        """Whoever takes in what gateways discover, once some gateway does."""
        if configuration.has_discovery and FLEET not in self.children:
            self.children.add([fleet_spec(self.settings)])

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    def _write_status(self) -> None:
        if self.anchor:
            note_reached(self.settings, self.anchor)
        write_json(
            self.settings.at("run", "status.json"),
            {
                "supervisor_pid": os.getpid(),
                "ready": self._is_started and self.children.are_ready(),
                "at": self.clock.real_now().isoformat(),
                "processes": self.children.rows(),
                "urls": self.children.urls(),
            },
        )
