"""All of telemetry in the collector: a stream a facility, the thread that writes, and what is told of them.

Streams begin once the lake has said what is stored; facilities that come or move are followed within seconds.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import psycopg

from hcp_pipelines.collector import metrics
from hcp_pipelines.collector.telemetry.intake import Intake
from hcp_pipelines.collector.telemetry.inventory import Endpoint, read_endpoints, read_parts
from hcp_pipelines.collector.telemetry.rates import Rates
from hcp_pipelines.collector.telemetry.roller import Roller
from hcp_pipelines.collector.telemetry.rows import minutes_of
from hcp_pipelines.collector.telemetry.streams import FacilityStream
from hcp_pipelines.collector.telemetry.writer import BATCH_EVERY_S, Writer
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.runtime.files import put_whole
from hcp_pipelines.runtime.process import ProcessContext
from hcp_pipelines.settings import Settings
from hcp_pipelines.wire.channels import client_tls
from hcp_pipelines.wire.telemetry import Part, Sample

LOOK_EACH_S = 5.0
TELL_EACH_S = 1.0
WINDOWS_BYTES = 128 * 2**20  # of all streams together
WINDOW_MIN_BYTES, WINDOW_MAX_BYTES = 2**20, 16 * 2**20
DRAIN_WITHIN_S = 4.0  # of the 8 s that a process has for its stop
SHED_TOLD_FOR_S = 120.0  # long enough for an alert


@dataclass
class _Followed:
    stream: FacilityStream
    task: "asyncio.Task[None]"


@dataclass
class Telemetry:
    """`run` until the context's stop."""

    context: ProcessContext
    batch_every_s: float = BATCH_EVERY_S
    may_begin: Callable[[], bool] = lambda: True
    intake: Intake = field(default_factory=Intake)
    followed: dict[str, _Followed] = field(default_factory=dict)
    rates: Rates = field(default_factory=Rates)
    _stored: dict[str, int] | None = None
    _shed: int = 0  # samples since this process began, and since this spell of it
    _spell: int = 0
    _shed_at_s: float = float("-inf")
    _shed_by: dict[str, int] = field(default_factory=dict)  # what each gateway says, since it began

    def __post_init__(self) -> None:
        """Nothing is opened yet."""
        self._roller = Roller(self.context.settings, self.context.clock)

    async def run(self) -> None:
        """Follow the gateways and write until told to stop; what has come in by then is written."""
        self._loop = asyncio.get_running_loop()
        context = self.context
        writer = Writer(context.settings, context.clock, self.intake, self, self.batch_every_s)
        await self._begin()
        writing = asyncio.create_task(asyncio.to_thread(writer.run))
        rolling = asyncio.create_task(self._roll())
        telling = asyncio.create_task(self._tell(writer))
        try:
            await self._follow_all()
        finally:
            telling.cancel()
            await self._leave(list(self.followed))
            writer.stop()
            self._roller.stop()
            done, _ = await asyncio.wait({writing}, timeout=DRAIN_WITHIN_S)
            if not done:
                writer.cancel()
            await asyncio.gather(writing, rolling)

    async def _begin(self) -> None:
        """Wait for one's turn: what sets the lake's tables up at once is refused by it."""
        while not (self.may_begin() or self.context.stop.is_set()):
            await _until(self.context.stop, TELL_EACH_S / 4)

    async def _roll(self) -> None:
        while self._stored is None:  # the writer has made the tables then
            if self.context.stop.is_set():
                return
            await _until(self.context.stop, TELL_EACH_S / 4)
        await asyncio.to_thread(self._roller.run)

    # -- told by the writer's thread ----------------------------------------------------------------------------------

    def opened(self, stored: Mapping[str, int], number: int) -> None:  # noqa: ARG002
        """The lake says what is stored."""
        self._loop.call_soon_threadsafe(self._note_stored, dict(stored))

    def written(self, samples: Sequence[Sample], number: int) -> None:
        """These are in the lake."""
        self._roller.note(minutes_of(samples), number)
        now_s = self.context.clock.real_now().timestamp()
        for sample in samples:
            metrics.TELEMETRY_AGE_SECONDS.observe(now_s - sample.sampled_at_us / 1e6)
        metrics.TELEMETRY_ROWS.inc(sum(s.devices for s in samples))
        self.rates.note(samples, self.context.clock.monotonic_s())
        self._loop.call_soon_threadsafe(self._note_stored, {s.facility_id: s.seq for s in samples})

    def _note_stored(self, stored: dict[str, int]) -> None:
        self._stored = (self._stored or {}) | stored
        for facility_id, seq in stored.items():
            if facility_id in self.followed:
                self.followed[facility_id].stream.stored(seq)

    # -- streams ------------------------------------------------------------------------------------------------------

    async def _follow_all(self) -> None:
        while not self.context.stop.is_set():
            if self._stored is not None:
                await self._look()
            wait_s = LOOK_EACH_S if self.followed else TELL_EACH_S / 4
            await _until(self.context.stop, wait_s)

    async def _look(self) -> None:
        """Follow the facilities that there are now, at the addresses that they have now."""
        try:
            endpoints = await asyncio.to_thread(read_endpoints, self.context.settings)
        except (psycopg.Error, StorageError):
            return  # the copier says so
        wanted = {one.facility_id: one for one in endpoints}
        moved = [f for f, one in self.followed.items() if f not in wanted or wanted[f].address != one.stream.address]
        await self._leave(moved)
        window = min(max(WINDOWS_BYTES // max(len(wanted), 1), WINDOW_MIN_BYTES), WINDOW_MAX_BYTES)
        for facility_id, endpoint in wanted.items():
            if facility_id not in self.followed:
                self._follow(endpoint, window)

    def _follow(self, endpoint: Endpoint, window_bytes: int) -> None:
        settings, facility_id = self.context.settings, endpoint.facility_id
        stream = FacilityStream(
            facility_id, endpoint.address, client_tls(settings, "collector"), self.intake,
            partial(_read_parts, settings, facility_id), self.context.clock, window_bytes,
        )  # fmt: skip
        stream.stored((self._stored or {}).get(facility_id, 0))
        self.followed[facility_id] = _Followed(stream, asyncio.create_task(stream.run()))

    async def _leave(self, facilities: Sequence[str]) -> None:
        tasks = [self.followed.pop(facility_id).task for facility_id in facilities]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what is told -------------------------------------------------------------------------------------------------

    async def _tell(self, writer: Writer) -> None:
        while True:
            health, streams = self.context.health, [one.stream for one in self.followed.values()]
            health["telemetry"] = writer.problem
            health["telemetry roll-ups"] = self._roller.problem
            health["telemetry streams"] = "; ".join(filter(None, (stream.problem for stream in streams)))
            health["telemetry shed"] = self._shedding({stream.facility_id: stream.shed for stream in streams})
            with contextlib.suppress(OSError):  # a full disk: that it is not told there is the least of it
                self._write_state()
            await asyncio.sleep(TELL_EACH_S)

    def _shedding(self, told: Mapping[str, int]) -> str:
        """What gateways had to give up of late: /healthz has it, and so the alerts do. One that begins anew counts from 0."""
        before = {name: self._shed_by.get(name, 0) for name in told}
        more = sum(shed - (before[name] if shed >= before[name] else 0) for name, shed in told.items())
        self._shed_by |= told
        self._shed += more
        metrics.TELEMETRY_SHED.set(self._shed)
        now_s = self.context.clock.monotonic_s()
        if more:
            self._shed_at_s, self._spell = now_s, self._spell + more
        if now_s - self._shed_at_s > SHED_TOLD_FOR_S:
            self._spell = 0
            return ""
        return f"gateways gave up {self._spell} samples for want of room: raw telemetry is lost (docs/telemetry.md)"

    def _write_state(self) -> None:
        """`run/telemetry.json`, for `hcp status`."""
        seen = self.rates.seen(self.context.clock.real_now().timestamp(), self.context.clock.monotonic_s())
        metrics.TELEMETRY_LAG_SECONDS.set(seen["lag_s"] or 0.0)
        told_at = self.context.clock.real_now().isoformat()
        more = {"stored": self._stored or {}, "shed_samples": self._shed, "told_at": told_at}
        path = self.context.settings.at("run", "telemetry.json")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        put_whole(path, json.dumps(seen | more))


async def _read_parts(settings: Settings, facility_id: str, generation: int) -> tuple[Part, ...]:
    return await asyncio.to_thread(read_parts, settings, facility_id, generation)


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
