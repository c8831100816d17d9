"""A universe in one event loop: two allocators, two gateways, their store, network, devices and prices, and what happens."""

import asyncio
import contextlib
import gc
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import structlog

from hcp_pipelines.allocator.service import Allocator
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.edge.facility import FacilityGateway
from hcp_pipelines.edge.service import EdgeService
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings
from tests.faults import fleet
from tests.faults.hall import Hall
from tests.faults.happen import Happenings
from tests.faults.memory_database import Database
from tests.faults.memory_log import Disk, MemoryLog
from tests.faults.memory_store import MemoryStore
from tests.faults.network import Network
from tests.faults.records import Final, Run, Span
from tests.faults.schedule import Happening, Names
from tests.faults.virtual import SPEED, Process, ProcessClock, VirtualLoop, make_loop

TICK_EACH_S = 8.0
CALM_S = 130.0
SKEW_S = 0.15
ALONE_S = 20.0
RESTART_S = 1.0
ALLOCATORS, GATEWAYS = ("alloc-a", "alloc-b"), ("gw-1", "gw-2")


class Context(ProcessContext):
    """A process' context that writes no file."""

    def ready(self, **urls: str) -> None:
        """Nobody waits for it."""


def names_of(seed: str) -> Names:
    """Who and what a seed's universe has."""
    count = 3 + (random.Random(f"{seed}/size").random() < 0.4)
    return Names(tuple(fleet.facility_ids(count)), ALLOCATORS, GATEWAYS)


class Universe:
    """One run. `play` it once."""

    def __init__(self, seed: str, lasts_s: float, calm_s: float = CALM_S, *, is_scheduled: bool = False) -> None:
        self.seed, self.lasts_s = seed, lasts_s
        self.loop: VirtualLoop = make_loop()
        self.names = names_of(seed)
        rng = random.Random(f"{seed}/fleet")
        self.inventories = {f: fleet.inventory(f, rng, is_scheduled=is_scheduled) for f in self.names.facilities}
        portfolio_mw = sum(i.capacity_mw for i in self.inventories.values())
        self.gateway_of = {f: GATEWAYS[n % len(GATEWAYS)] for n, f in enumerate(self.names.facilities)}
        self.configs = {f: fleet.site_config(i, portfolio_mw) for f, i in self.inventories.items()}
        facts = [fleet.facts(i, portfolio_mw) for i in self.inventories.values()]
        self.run = Run(SPEED, lasts_s + calm_s, 2 * SKEW_S, facts)
        self.network = Network(self.loop, f"{seed}/network", self.run.wire)
        self.db = Database(self.loop, f"{seed}/store", list(self.inventories.values()), self.gateway_of)
        self.halls = {f.facility_id: Hall(self.loop, f, f"{seed}/{f.facility_id}", fleet.PUE) for f in facts}
        self.disks = {f: Disk(self.loop, f, f"{seed}/disk/{f}", self.run.entries) for f in self.names.facilities}
        self.skew_s = {n: rng.uniform(-SKEW_S, SKEW_S) for n in (*ALLOCATORS, *GATEWAYS)}
        self.processes: dict[str, Process] = {}
        self.gateways: dict[str, FacilityGateway] = {}
        self.defects: list[str] = []
        self.has_prices = True
        self._prices = random.Random(f"{seed}/prices")
        self._price = {f: self._prices.uniform(25, 75) for f in self.names.facilities}
        self._ticked_s: list[float] = []
        self._numbers = 0
        self.settings = Settings(
            state_dir=Path("/nowhere"), price_staleness_s=fleet.STALE_S, hold_s=fleet.HOLD_S, btc_staleness_s=1e9
        )

    def play(self, schedule: list[Happening]) -> Run:
        """Let it all happen; what was seen."""
        with quiet(), repeatable(self.seed):
            asyncio.set_event_loop(self.loop)
            gc.disable()  # what is collected may close what was left open: when, depends on what ran before
            try:
                self.loop.run_until_complete(self._main(schedule))
            finally:
                asyncio.set_event_loop(None)
                self._finish()
                gc.enable()
        return self.run

    async def _main(self, schedule: list[Happening]) -> None:
        happenings = Happenings(self)
        for facility_id in self.names.facilities:
            happenings.publish(facility_id)
        for name in (*GATEWAYS, *ALLOCATORS):
            self.start(name)
        self._tick()
        for happening in schedule:
            self.loop.later(happening.at_s, happenings.do, happening)
        self.loop.later(self.lasts_s, happenings.end_all)
        await asyncio.sleep(self.run.ends_s)

    # -- processes ----------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a process, unless it runs."""
        before = self.processes.get(name)
        if before is not None and not before.is_dead:
            return
        self._numbers += 1
        process = self.processes[name] = Process(self.loop, name, self.skew_s[name])
        process.number = self._numbers
        clock = ProcessClock(self.loop, self.skew_s[name], 1000.0 * self._numbers)
        work = self._allocate(name, clock) if name in ALLOCATORS else self._serve(name, clock, process)
        process.spawn(work).add_done_callback(lambda task: self._ended(process, task), context=self.loop.world)

    def kill(self, name: str) -> None:
        """End it at once."""
        self.processes[name].kill()

    def _ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not _is_outage(error):
            self.defects.append(f"{process.name} at {self.loop.now_s:.3f} s: {error!r} {_inner(error)}")
        process.kill()
        self.loop.later(RESTART_S, self.start, process.name)

    async def _allocate(self, name: str, clock: ProcessClock) -> None:
        context = Context(name, self.settings, clock, structlog.get_logger("allocator"))
        await Allocator(context, name, MemoryStore(self.db, clock), self.network.dial).run()

    async def _serve(self, name: str, clock: ProcessClock, process: Process) -> None:
        facilities = {}
        for facility_id, gateway in self.gateway_of.items():
            if gateway == name:
                log, hall = MemoryLog(self.disks[facility_id], process), self.halls[facility_id]
                facilities[facility_id] = FacilityGateway(self.configs[facility_id], log, clock, 500, hall.make)
        for facility_id in facilities:
            self.network.heard(facility_id)
        self.gateways.update(facilities)
        self.network.servers[name] = (process, EdgeService(facilities))
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for facility in facilities.values():
                group.create_task(facility.run(stop))

    # -- market -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        clock = ProcessClock(self.loop)
        is_calm = self.loop.now_s >= self.lasts_s
        if self.has_prices:
            self._ticked_s.append(self.loop.now_s)
        for facility_id, made in self.inventories.items():
            if self.has_prices:
                if not is_calm:
                    step = self._prices.gauss(0, 16) + 0.1 * (48 - self._price[facility_id])
                    self._price[facility_id] = min(max(self._price[facility_id] + step, -20.0), 150.0)
                self.db.put_tick("power.rt_lmp", made.settlement_point, clock.now(), round(self._price[facility_id], 2))
        self.loop.later(TICK_EACH_S, self._tick)

    # -- end ----------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        run = self.run
        self.db.finish()
        run.journal, run.admissions = self.db.journal, self.db.admissions
        run.spans += [*self.db.spans, *self._stale(), *self._alone("alone", self.network.heard_s)]
        run.spans += self._alone("unheard", self.network.beats_s)
        for facility_id, hall in self.halls.items():
            run.sets += hall.sets
            run.changes += hall.changes
            told = self.gateways[facility_id].states if facility_id in self.gateways else hall.told
            run.finals.append(
                Final(
                    facility_id, tuple(told.tolist()), tuple(hall.drawn.tolist()),
                    tuple(np.flatnonzero(hall.was_faulty).tolist()),
                )
            )  # fmt: skip
        for facility_id, gateway in self.gateways.items():
            if gateway.problem.startswith("defect"):
                self.defects.append(f"{facility_id}: {gateway.problem}")
        self.defects += self.loop.errors
        self.loop.bury()

    def _stale(self) -> list[Span]:
        """From when the newest price is too old until the second good one has come."""
        found, stale_s = [], fleet.STALE_S / SPEED
        ticks = [*self._ticked_s, self.run.ends_s, self.run.ends_s]
        for before_s, after_s, second_s in zip(ticks, ticks[1:], ticks[2:], strict=False):
            if after_s - before_s > stale_s:
                found += [Span("stale", f, before_s + stale_s, second_s) for f in self.names.facilities]
                lone_s = min(second_s, after_s + stale_s)
                found += [Span("lone price", f, after_s, lone_s) for f in self.names.facilities]
        return found

    def _alone(self, what: str, heard: dict[str, list[float]]) -> list[Span]:
        """Gaps in what a gateway heard of owners."""
        found = []
        for facility_id, heard_s in heard.items():
            for before_s, after_s in zip(heard_s, [*heard_s[1:], self.run.ends_s], strict=True):
                if after_s - before_s > ALONE_S:
                    found.append(Span(what, facility_id, before_s, after_s))
        return found


def _is_outage(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_outage(e) for e in error.exceptions)
    return isinstance(error, psycopg.OperationalError | StorageError)


def _inner(error: BaseException) -> str:
    return ", ".join(repr(e) for e in error.exceptions) if isinstance(error, BaseExceptionGroup) else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines: a universe of faults has a million of them."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50), cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


@contextlib.contextmanager
def repeatable(seed: str) -> Iterator[None]:
    """Ids and unseeded draws follow from the seed."""
    rng, uuid4, default_rng = random.Random(f"{seed}/ids"), uuid.uuid4, np.random.default_rng

    def next_id() -> uuid.UUID:
        return uuid.UUID(int=rng.getrandbits(128) | (1 << 127), version=4)

    def seeded(*arguments: object) -> np.random.Generator:
        return default_rng(*arguments) if arguments else default_rng(rng.getrandbits(64))  # type: ignore[arg-type]

    uuid.uuid4, np.random.default_rng = next_id, seeded  # type: ignore[assignment]
    try:
        yield
    finally:
        uuid.uuid4, np.random.default_rng = uuid4, default_rng
