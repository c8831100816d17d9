"""A sample of all devices of a facility each real second, from the readings that the driver has anyway: nothing is polled twice.

In the gateway's loop only references and small copies are taken. Columns, bytes and files are made in the worker's thread; where
that is behind, samples are left out rather than heaped up.
"""

import asyncio
import contextlib
import math
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.site import Evidence, Reading
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import EdgeConfig, FacilityConfig, TelemetryConfig
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.facility import FacilityGateway
from hcp_pipelines.edge.plant import Plant, PlantReading
from hcp_pipelines.edge.telemetry.metering import Metering
from hcp_pipelines.edge.telemetry.spool import Spool
from hcp_pipelines.wire.telemetry import DEVICES_MAX, Bytes, Flag, Floats, Meter, Part, Sample, encode_sample

NICENESS = 10  # above that of the gateway's other threads
MEGABYTE = 10**6
AGAIN_AFTER_S = 30.0  # after an error: one line of the log each time


def new_worker() -> ThreadPoolExecutor:
    """The thread of all telemetry of a gateway."""
    return ThreadPoolExecutor(1, thread_name_prefix="telemetry", initializer=_step_back)


def _step_back() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is taken in the loop: the reading, what the devices were told, and when."""

    reading: Reading
    states: Bytes
    dark: npt.NDArray[np.bool_]
    sampled_at_us: int
    plant: PlantReading | None


class Sampler:
    """One facility's samples and their spool; `run` until cancelled."""

    def __init__(
        self, config: FacilityConfig, telemetry: TelemetryConfig, devices: Devices, folder: Path, clock: SystemClock,
        worker: ThreadPoolExecutor, plant: Plant | None = None,
    ) -> None:  # fmt: skip
        self.facility_id, self._generation = config.facility_id, config.generation
        self._telemetry, self._devices, self._plant, self._folder = telemetry, devices, plant, folder
        self._metering = Metering(config.facility_id)
        self._clock, self.worker = clock, worker
        groups = sorted(config.groups, key=lambda group: group.first_slot)
        self._parts = tuple(Part(g.group_id, g.first_slot, g.devices) for g in groups)
        self._slots = np.concatenate([np.arange(p.first_slot, p.first_slot + p.devices) for p in self._parts])
        self._reading: Reading | None = None
        self._spool: Spool | None = None
        self._keeping: Future[None] | None = None
        self.kept = self.last_seq = 0  # samples, given up ones too; the number of the last
        self.listeners: list[Callable[[], None]] = []  # told in the loop when a sample is kept
        self._log = structlog.get_logger("edge").bind(facility_id=config.facility_id)
        devices.listeners.append(self._note)

    async def run(self, after_s: float = 0.0) -> None:
        """Open the spool, then a sample each period, of readings that are new; the first after so many seconds."""
        if len(self._slots) > DEVICES_MAX:
            self._log.error(
                "no telemetry", reason=f"{len(self._slots):,} devices; a sample has {DEVICES_MAX:,} at most"
            )
            return
        await asyncio.sleep(after_s)
        while True:
            try:
                if self._spool is None:
                    await self.in_thread(self._open)
                self._take()
            except Exception as defect:  # noqa: BLE001 - telemetry must not stop those that switch
                self._log.error("no telemetry", exc_info=defect)
                await asyncio.sleep(AGAIN_AFTER_S)
            await asyncio.sleep(self._telemetry.every_s)

    async def in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Do something with the spool in its thread; what it gives."""
        return await asyncio.get_running_loop().run_in_executor(self.worker, work, *arguments)

    # -- in the worker's thread ---------------------------------------------------------------------------------------

    def read(self, after_seq: int, limit_bytes: int) -> list[tuple[int, bytes]]:
        """Kept samples after a number."""
        return self._spool.read(after_seq, limit_bytes) if self._spool else []

    def acknowledge(self, seq: int) -> None:
        """Let go of what is stored."""
        if self._spool:
            self._spool.acknowledge(seq)

    def _open(self) -> None:
        now_ms = round(self._clock.real_now().timestamp() * 1000)
        options = self._telemetry
        self._spool = Spool(self._folder, round(options.spool_mb * MEGABYTE), round(options.free_mb * MEGABYTE), now_ms)

    def _keep(self, taken: _Taken) -> None:
        spool = self._spool
        if spool is None:
            return
        before = spool.shed
        now_s = self._clock.monotonic_s()
        self.last_seq = spool.next_seq
        spool.append(encode_sample(self._sample(taken, spool)), now_s)
        self.kept += 1
        spool.sync(now_s)
        metrics.TELEMETRY_SPOOL_BYTES.labels(self.facility_id).set(spool.size)
        if spool.shed > before:
            metrics.TELEMETRY_SHED.labels(self.facility_id).inc(spool.shed - before)
            self._log.warning(
                "telemetry given up for want of room", samples=spool.shed - before, spool_bytes=spool.size
            )

    def _sample(self, taken: _Taken, spool: Spool) -> Sample:
        reading, slots = taken.reading, self._slots
        return Sample(
            facility_id=self.facility_id,
            generation=self._generation,
            seq=spool.next_seq,
            sampled_at_us=taken.sampled_at_us,
            simulated_at_us=_us(reading.simulated_at_s),
            parts=self._parts,
            power_kw=(reading.values[slots] / np.float32(1000)).astype(np.float32, copy=False),
            hashrate_th_per_s=_of(reading.hashrate_th_per_s, slots),
            temperature_celsius=_of(reading.temperature_celsius, slots),
            state=taken.states[slots],
            flags=self._flags(taken),
            shed=spool.shed,
            meter=self._meter(taken),
        )

    def _meter(self, taken: _Taken) -> Meter | None:
        """The meter, or the devices' power where none is read, if it is to be told."""
        plant, reading = taken.plant, taken.reading
        if plant is not None:
            return self._metering.next(Meter(_us(plant.metered_at_s), plant.meter_kw, plant.energy_mwh))
        drawn_kw = self._devices.shape.meter_kw(reading.values / np.float32(1000))
        return self._metering.next(Meter(_us(reading.simulated_at_s), drawn_kw))

    def _flags(self, taken: _Taken) -> Bytes:
        reading = taken.reading
        measured = np.where(np.isfinite(reading.values), Evidence.MEASURED, Evidence.NONE)
        flags = (measured if reading.evidence is None else reading.evidence).astype(np.uint8)
        flags[reading.hot] |= np.uint8(Flag.HOT)
        flags[: len(taken.dark)][taken.dark] |= np.uint8(Flag.DARK)
        own: Bytes = flags[self._slots]
        return own

    # -- in the loop --------------------------------------------------------------------------------------------------

    def _note(self, reading: Reading) -> None:
        self._reading = reading

    def _take(self) -> None:
        reading = self._reading
        if reading is None or self._spool is None:
            return
        if self._keeping is not None and not self._keeping.done():
            metrics.TELEMETRY_LEFT_OUT.labels(self.facility_id).inc()
            return
        self._reading = None
        now_us = round(self._clock.real_now().timestamp() * 1e6)
        taken = _Taken(
            reading,
            self._devices.states.copy(),
            self._devices.bars.dark.copy(),
            now_us,
            self._plant.newest if self._plant else None,
        )
        self._keeping = self.worker.submit(self._keep, taken)
        loop = asyncio.get_running_loop()
        self._keeping.add_done_callback(lambda done: _call_in(loop, self._kept, done))

    def _kept(self, done: "Future[None]") -> None:
        if not done.cancelled() and done.exception() is not None:
            self._log.error("a sample could not be kept", exc_info=done.exception())
        for listener in self.listeners:
            listener()


def samplers_of(
    config: EdgeConfig, facilities: Mapping[str, FacilityGateway], clock: SystemClock, worker: ThreadPoolExecutor
) -> dict[str, Sampler]:
    """One of each facility of a gateway; a spool is in `telemetry` of the facility's folder."""
    return {
        f.facility_id: Sampler(
            f,
            config.telemetry,
            facilities[f.facility_id].devices,
            config.state_dir / f.facility_id / "telemetry",
            clock,
            worker,
            facilities[f.facility_id].plant,
        )
        for f in config.facilities
    }


def _of(column: Floats | None, slots: npt.NDArray[np.int64]) -> Floats | None:
    return None if column is None else column[slots]


def _call_in(loop: asyncio.AbstractEventLoop, work: Callable[["Future[None]"], None], done: "Future[None]") -> None:
    with contextlib.suppress(RuntimeError):  # the gateway has ended meanwhile
        loop.call_soon_threadsafe(work, done)


def _us(instant_s: float) -> int:
    """Unix microseconds; 0, which nobody takes, of what is no number."""
    return round(instant_s * 1e6) if math.isfinite(instant_s) else 0
