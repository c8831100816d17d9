"""The platform's life: Postgres, configuration, processes in order, watch, stop. One loop, one thread.

The thread matters: children are tied to the life of the thread that spawned them, and forking from a process
with other threads is a risk not worth taking.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.domain.errors import AlreadyRunningError, ConfigError, HcpError
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.supervisor import guardian
from hcp_pipelines.supervisor.anchor import note_reached, refuse_other_world, write_anchor
from hcp_pipelines.supervisor.child import Child, ProcessSpec, State, cut_log
from hcp_pipelines.supervisor.configuration import Configuration
from hcp_pipelines.supervisor.dagster import dagster_specs, prepare_dagster
from hcp_pipelines.supervisor.database import postgres_spec
from hcp_pipelines.supervisor.fleet_watch import FleetWatch
from hcp_pipelines.supervisor.folders import prepare_folders
from hcp_pipelines.supervisor.lock import StateLock
from hcp_pipelines.supervisor.processes import FLEET, ROOT, daemon_specs, fleet_spec, world_spec

LOOP_S = 0.1
CHECK_S = 1.0
FLEET_CHECK_S = 3.0
START_WITHIN_S = 180.0

Report = Callable[[str], None]


@dataclass
class Platform:
    """Everything that `hcp up` runs."""

    settings: Settings
    start_at: datetime | None = None
    report: Report = lambda _: None
    clock: SystemClock = field(default_factory=SystemClock)
    children: dict[str, Child] = field(default_factory=dict)
    anchor: Anchor | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _fleet: FleetWatch = field(init=False)

    def __post_init__(self) -> None:
        """The fleet as the settings' database has it."""
        self._fleet = FleetWatch(self.settings)

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
            self._sweep()
            refuse_busy_port(self.settings.dagster_port, "HCP_DAGSTER_PORT", "the Dagster UI")
            with Guardian(self._pid_file()) as watcher:
                try:
                    await self._start()
                    await self._watch(each_second)
                finally:
                    self.report("stopping")
                    self._stop_all()
                    watcher.dismiss()

    def request_stop(self) -> None:
        """Make `run` stop everything and return."""
        self._stop.set()

    def is_ready(self) -> bool:
        """Whether every process is up and says that it is well."""
        return bool(self.children) and all(c.state is State.READY and not c.reason for c in self.children.values())

    def urls(self) -> dict[str, str]:
        """Where a person can look."""
        urls = {"dagster": f"http://127.0.0.1:{self.settings.dagster_port}"}
        for child in self.children.values():
            urls |= {f"{child.spec.name}.{kind}": url for kind, url in child.urls().items()}
        return urls

    def process_rows(self) -> list[dict[str, Any]]:
        """One row a process, as `hcp status --json` prints them."""
        return [
            {
                "name": c.spec.name,
                "pid": c.pid,
                "state": c.state.value,
                "healthy": c.state is State.READY and not c.reason,
                "restarts": c.restarts,
                "reason": c.reason,
                "log": str(c.log_path),
            }
            for c in self.children.values()
        ]

    async def _start(self) -> None:
        refuse_other_world(self.settings)
        if self.settings.database_url is None:
            self.report("starting PostgreSQL")
            self._add([postgres_spec(self.settings)])
            await self._until_ready(["postgres"])
        bootstrap(self.settings)
        self.report("PostgreSQL and the lake are ready")
        prepare_dagster(self.settings)
        first, later = dagster_specs(self.settings)
        self._add(first)
        self.report("Dagster is loading (20–30 s on two cores); the world's clock starts when it is there")
        await self._until_ready([spec.name for spec in first])
        configuration = self._fleet.begin(self._make_anchor)
        self.report(configuration.summary)
        world = [] if self.settings.world == "real" else [world_spec(self.settings)]
        self._add(world + daemon_specs(self.settings, configuration.gateways) + later)
        self._add_follower(configuration)

    def _make_anchor(self, begins_at: datetime | None) -> Anchor:
        self.anchor = write_anchor(self.settings, self.start_at, begins_at)
        return self.anchor

    async def _watch(self, each_second: Callable[["Platform"], None]) -> None:
        next_check_s = next_fleet_s = self.clock.monotonic_s()
        async with httpx.AsyncClient() as client:
            checking: asyncio.Task[None] | None = None
            while not self._stop.is_set():
                self._poll()
                now_s = self.clock.monotonic_s()
                if now_s >= next_check_s and (checking is None or checking.done()):
                    checking = asyncio.create_task(self._check(client))
                    next_check_s = now_s + CHECK_S
                    self._write_status()
                    each_second(self)
                if now_s >= next_fleet_s:
                    self._follow_fleet()
                    self._cut_logs()
                    next_fleet_s = now_s + FLEET_CHECK_S
                await self._pause(LOOP_S)
            if checking:
                checking.cancel()

    async def _check(self, client: httpx.AsyncClient) -> None:
        await asyncio.gather(*(child.check(client) for child in self.children.values()), return_exceptions=True)

    async def _until_ready(self, names: Iterable[str]) -> None:
        deadline_s = self.clock.monotonic_s() + START_WITHIN_S
        wanted = [self.children[name] for name in names]
        async with httpx.AsyncClient() as client:
            while any(c.state is not State.READY for c in wanted):
                await self._check(client)
                self._poll()
                if self._stop.is_set():
                    raise HcpError("stopped before everything was up")
                if self.clock.monotonic_s() > deadline_s:
                    late = next(c for c in wanted if c.state is not State.READY)
                    raise HcpError(f"{late.spec.name} is not ready after {START_WITHIN_S:.0f} s: {late.reason}")
                await self._pause(LOOP_S)

    def _add(self, specs: Iterable[ProcessSpec]) -> None:
        for spec in specs:
            self.children[spec.name] = Child(spec, self.settings.at("logs", f"{spec.name}.log"), self.clock)
        self._poll()

    def _poll(self) -> None:
        changed = False
        for child in self.children.values():
            before = (child.state, child.pid)
            if child.state is State.WAITING:
                if self._may_start(child):
                    child.start()
            elif not self._is_held(child):
                child.poll()
            if (child.state, child.pid) != before:
                changed = True
                self.report(f"{child.spec.name}: {child.state.value}{' – ' + child.reason if child.reason else ''}")
        if changed:
            self._write_pids()

    def _may_start(self, child: Child) -> bool:
        needed = [self.children[name] for name in child.spec.after if name in self.children]
        return all(c.state is State.READY for c in needed)

    def _is_held(self, child: Child) -> bool:
        """Whether a dead child would only die again: Postgres is away, and each death makes its backoff longer."""
        postgres = self.children.get("postgres")
        is_away = postgres is not None and postgres.state is not State.READY
        return is_away and child.state is State.BACKOFF and "postgres" in child.spec.after

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
        for name in change.affected:
            if name in self.children and self.children[name].pid:
                self.children[name].restart()
        self._add_follower(change.configuration)
        self._write_pids()

    def _add_follower(self, configuration: Configuration) -> None:
        """Whoever takes in what gateways discover, once some gateway does."""
        if configuration.has_discovery and FLEET not in self.children:
            self._add([fleet_spec(self.settings)])

    def _cut_logs(self) -> None:
        for child in self.children.values():
            try:
                cut_log(child.log_path)
            except OSError as error:
                self.report(f"{child.log_path} can't be cut: {error.strerror}")

    def _sweep(self) -> None:
        left = guardian.end_all(self._pid_file())
        if left:
            self.report(f"ended {left} processes that an earlier platform had left behind")

    def _stop_all(self) -> None:
        last = [c for c in self.children.values() if c.spec.name == "postgres"]
        first = [c for c in self.children.values() if c.spec.name != "postgres"]
        for group in (first, last):
            for child in group:
                child.stop()
            for child in group:
                child.reap()
        self._pid_file().unlink(missing_ok=True)
        self._write_status()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return

    def _pid_file(self) -> Path:
        return self.settings.at("run", "pids.json")

    def _write_pids(self) -> None:
        _write_json(self._pid_file(), [c.identity() for c in self.children.values() if c.identity()])

    def _write_status(self) -> None:
        if self.anchor:
            note_reached(self.settings, self.anchor)
        _write_json(
            self.settings.at("run", "status.json"),
            {
                "supervisor_pid": os.getpid(),
                "ready": self.is_ready(),
                "at": self.clock.real_now().isoformat(),
                "processes": self.process_rows(),
                "urls": self.urls(),
            },
        )


class Guardian:
    """The process that ends everything should this one be killed."""

    def __init__(self, pid_file: Path) -> None:
        self._pid_file = pid_file
        self._write_fd = -1
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Guardian":
        """Start it with the read end of a pipe that only we can write."""
        read_fd, self._write_fd = os.pipe()
        argv = [sys.executable, "-S", "-m", "hcp_pipelines.supervisor.guardian", str(read_fd), str(self._pid_file)]
        self._process = subprocess.Popen(
            argv, pass_fds=[read_fd], cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL
        )
        os.close(read_fd)
        return self

    def dismiss(self) -> None:
        """Tell it that we stopped in good order."""
        os.write(self._write_fd, b".")

    def __exit__(self, *_: object) -> None:
        """Close the pipe and reap it."""
        os.close(self._write_fd)
        if self._process:
            self._process.wait(30)


def refuse_busy_port(port: int, setting: str, use: str) -> None:
    """Raise AlreadyRunningError when the loopback port is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise AlreadyRunningError(
                f"Port {port} on 127.0.0.1, wanted for {use}, is taken: {error.strerror}. "
                f"Free it, or choose another one with {setting}=…"
            ) from error


def _write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(value))
    fresh.replace(path)
