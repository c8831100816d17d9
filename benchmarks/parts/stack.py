"""The switching half of the platform as real processes: Postgres, world, gateways and two allocators; no Dagster, no feed.

Specs, files and readiness are the supervisor's own; what differs is what runs, and a clock whose speed a benchmark chooses.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import yaml

from benchmarks.common import cpu_s, pss_mb
from hcp_pipelines.domain.clock import Anchor, SystemClock
from hcp_pipelines.fleet.apply import apply
from hcp_pipelines.fleet.document import FacilityFile
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.bootstrap import bootstrap
from hcp_pipelines.storage.embedded import EmbeddedPostgres
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.child import Child, ProcessSpec, State
from hcp_pipelines.supervisor.configuration import Configuration, configure
from hcp_pipelines.supervisor.database import postgres_spec
from hcp_pipelines.supervisor.folders import prepare_folders
from hcp_pipelines.supervisor.processes import ALLOCATORS, daemon_specs, world_spec

STARTS_AT = datetime(2025, 1, 1, tzinfo=UTC)
LONG_S = 30 * 86_400.0  # simulated: what must not end during a run
READY_WITHIN_S = 180.0
LOOP_S = 0.1

Report = Callable[[str], None]


@dataclass
class Stack:
    """The processes on a state directory of their own."""

    settings: Settings
    report: Report = lambda _: None
    documents: Sequence[FacilityFile] = ()  # facilities of one's own; none: the demo's
    children: dict[str, Child] = field(default_factory=dict)
    clock: SystemClock = field(default_factory=SystemClock)
    configuration: Configuration | None = None

    async def start(self) -> None:
        """Everything up and well; the clock runs from the moment that the fleet is known."""
        prepare_folders(self.settings)
        await self._up([postgres_spec(self.settings)])
        bootstrap(self.settings)
        self.report(f"applying {self.settings.devices:,} devices in {self.settings.facilities} facilities")
        self._apply_own()
        self.configuration = configure(self.settings, self._anchor)
        for name in self.gateways:
            self._outlast_set_up(name)
        self.report("starting world, gateways and allocators")
        wanted = {*self.gateways, *ALLOCATORS}  # all at once: each looks for the others until they are there
        daemons = [s for s in daemon_specs(self.settings, self.gateways) if s.name in wanted]
        await self._up([world_spec(self.settings), *daemons])

    def kill(self, name: str) -> datetime:
        """SIGKILL to a process, which stays down; the real instant just before."""
        child = self.children[name]
        if child.pid is None:
            raise RuntimeError(f"{name} does not run: {child.reason}")
        killed_at = SystemClock().real_now()
        os.kill(child.pid, signal.SIGKILL)
        self._end([child])
        return killed_at

    async def start_again(self, name: str) -> None:
        """Start a process that was killed, or stopped, and wait until it is well."""
        self.children[name].start()
        await self._until_well([self.children[name]])

    def stop_one(self, name: str) -> None:
        """Ask a process to end, and wait for it."""
        self._end([self.children[name]])

    def stop_all_but_postgres(self) -> None:
        """End what writes logs and journal, so that they can be read as they are."""
        self._end([c for name, c in self.children.items() if name != "postgres"])

    def stop(self) -> None:
        """End everything."""
        self.stop_all_but_postgres()
        self._end(self.children.values())

    @property
    def gateways(self) -> list[str]:
        """Names of the gateway processes."""
        return self.configuration.gateways if self.configuration else []

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far by process; a server's backends count as one with it."""
        return {name: cpu_s(c.pid) for name, c in self.children.items() if c.pid}

    def pss_mb(self, names: Iterable[str]) -> dict[str, float]:
        """Memory by process, MB."""
        return {name: round(pss_mb(pid), 1) for name in names if (pid := self.children[name].pid)}

    def restarts(self) -> int:
        """Processes that died by themselves, started again or not yet: 0, or the figures mean nothing."""
        self.poll()
        return sum(child.restarts + (child.state is State.BACKOFF) for child in self.children.values())

    def poll(self) -> None:
        """Notice deaths."""
        for child in self.children.values():
            child.poll()

    def _anchor(self, _: datetime | None) -> Anchor:
        anchor = Anchor(SystemClock().real_now(), STARTS_AT, self.settings.clock_speed)
        self.settings.at("run", "clock.json").write_text(anchor.dump())
        self.clock = SystemClock(anchor)
        return anchor

    def _apply_own(self) -> None:
        with connect(self.settings, Role.ADMIN) as connection:
            for document in self.documents:
                apply(connection, document, "bench")

    def _outlast_set_up(self, gateway: str) -> None:
        """At this speed an hour without an owner is a few seconds: no gateway may take its fallback plan for that."""
        path = self.settings.at("edge", f"{gateway}.yaml")
        document = yaml.safe_load(path.read_text())
        for facility in document["facilities"]:
            facility["fallback_after_s"] = self.settings.price_staleness_s
        path.write_text(yaml.safe_dump(document, sort_keys=False))

    async def _up(self, specs: Iterable[ProcessSpec]) -> None:
        fresh = [Child(s, self.settings.at("logs", f"{s.name}.log"), SystemClock()) for s in specs]
        self.children |= {child.spec.name: child for child in fresh}
        for child in fresh:
            child.start()
        await self._until_well(fresh)

    async def _until_well(self, fresh: Sequence[Child]) -> None:
        async with httpx.AsyncClient() as client, asyncio.timeout(READY_WITHIN_S):
            while late := [c for c in fresh if c.state is not State.READY or c.reason]:
                await asyncio.gather(*(c.check(client) for c in late))
                self.poll()
                if dead := [c for c in fresh if c.state is State.BACKOFF]:
                    raise RuntimeError(f"{dead[0].spec.name} {dead[0].reason}")
                await asyncio.sleep(LOOP_S)

    def _end(self, children: Iterable[Child]) -> None:
        running = [c for c in children if c.state is not State.STOPPED and c.state is not State.WAITING]
        for child in running:
            child.stop()
        for child in running:
            child.reap()


@contextmanager
def own_platform(keep: Path | None, devices: int, facilities: int, clock_speed: float) -> Iterator[Settings]:
    """Settings of a platform of a run's own, in simulated time; what it leaves is removed, or kept in the folder that is named.

    Gateways and log level are as in the environment.
    """
    with tempfile.TemporaryDirectory(prefix="hcp-bench-") as folder:
        settings = Settings(
            state_dir=keep or Path(folder) / "state",
            database_url=None,
            world="sim",
            devices=devices,
            facilities=facilities,
            clock_speed=clock_speed,
            price_staleness_s=LONG_S,
            btc_staleness_s=LONG_S,
            policy_expires_s=LONG_S,
            policy_refresh_s=LONG_S,
        )
        try:
            yield settings
        finally:
            if keep is None:  # the server may have its files elsewhere
                shutil.rmtree(EmbeddedPostgres(settings).data_dir, ignore_errors=True)


@asynccontextmanager
async def running_stack(
    settings: Settings, report: Report, documents: Sequence[FacilityFile] = ()
) -> AsyncIterator[Stack]:
    """Everything up, and down again at the end whatever happens."""
    stack = Stack(settings, report, documents)
    try:
        await stack.start()
        yield stack
    finally:
        stack.stop()
