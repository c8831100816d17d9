"""A facility's miners at their addresses as one `devices.site.DeviceSite`: polled in rounds; telling them states is in `telling`.

A round is complete when every miner due has answered or failed; then its reading is pushed. Those that don't answer are asked
again ever more rarely, so that a hundred hung ones don't hold up the others. What one call does is in the devices.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import httpx
import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.gpu_node.values import WorkloadSpec
from hcp_pipelines.devices.issues import IssueLog
from hcp_pipelines.devices.miner import metrics
from hcp_pipelines.devices.miner.evidence import square_with_meters
from hcp_pipelines.devices.miner.fleet import READ_MODES_EACH, Miner, MinerFleet
from hcp_pipelines.devices.miner.make import make_device
from hcp_pipelines.devices.miner.telemetry import MinerGroup, MinerOptions, Telemetry
from hcp_pipelines.devices.miner.telling import Teller
from hcp_pipelines.devices.miner.web import new_client
from hcp_pipelines.devices.site import OnReading, Reading, Sent, all_told
from hcp_pipelines.devices.work import kind_of, one_turn, spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError, HcpError
from hcp_pipelines.wire.slots import Slots, decode_slots


class Meters(Protocol):
    """The feeders' meters."""

    async def read(self) -> Mapping[str, float]:
        """IT watts by feeder."""

    async def close(self) -> None:
        """Let go of them."""


class MinerApiSite:
    """Miners by slot."""

    def __init__(
        self,
        groups: Sequence[MinerGroup],
        slots: int,
        options: MinerOptions,
        folder: Path,
        clock: Clock,
        on_reading: OnReading,
        meters: Meters | None = None,
    ) -> None:
        self.fleet = MinerFleet(groups, slots)
        self._options, self._folder, self._clock = options, folder, clock
        self._on_reading, self._meters = on_reading, meters
        self._client: httpx.AsyncClient | None = None
        self._teller: Teller | None = None
        self._polling: asyncio.Task[None] | None = None
        self._round = 0
        self._meter_problem = ""
        self._log = structlog.get_logger("devices.miner")
        self._issues = IssueLog(self._log)

    @property
    def devices(self) -> int:
        """Number of slots."""
        return self.fleet.slots if self._client is not None else 0

    async def connect(self, power_period_ms: int) -> None:
        """Look for every miner once, then poll them.

        Raises:
            DeviceUnreachableError: none of them answers.
        """
        await self.close()
        self._client = new_client(2 * self._options.concurrency)
        self._teller = Teller(self.fleet, self._options, self._folder, self._clock, self._client)
        for miner in self.fleet.by_slot.values():
            miner.next_round, miner.device = 0, None  # devices of before hold the client of before
        reading = await self._poll(with_modes=True)
        if not any(miner.telemetry for miner in self.fleet.by_slot.values()):
            raise DeviceUnreachableError(f"none of {len(self.fleet.by_slot)} miners answers")
        self._polling = asyncio.create_task(self._poll_on(power_period_ms / 1000))
        self._on_reading(reading)

    async def closed(self) -> None:
        """Polling ends only by a defect, or by `close`."""
        if self._polling is not None:
            await asyncio.wait({self._polling})
            if not self._polling.cancelled() and self._polling.exception() is not None:
                self._log.error("polling has a defect", exc_info=self._polling.exception())

    async def close(self) -> None:
        """Stop polling and commands under way."""
        polling, teller, client = self._polling, self._teller, self._client
        self._polling, self._teller, self._client = None, None, None
        if polling is not None:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        if teller is not None:
            await teller.close()
        if client is not None:
            await client.aclose()
        if self._meters is not None:
            await self._meters.close()

    def send_state(
        self,
        ref: UUID,
        assignment: int,
        state: int,
        slots: bytes,
        work: WorkloadSpec | None = None,  # noqa: ARG002 - a miner mines
    ) -> Sent:
        """Begin to tell the miners; a command that comes later for the same miner goes before.

        Raises:
            DeviceUnreachableError: not connected.
        """
        if self._teller is None or self._polling is None:
            raise DeviceUnreachableError("the miners are not connected")
        return self._teller.tell(f"{ref}/{assignment}", state, decode_slots(slots, self.fleet.slots))

    async def finish_state(self, sent: Sent) -> tuple[Slots, Slots]:
        """(accepted, refused) once every miner was told, or could not be."""
        return await all_told(sent, "the miners were")

    async def read_states(self) -> npt.NDArray[np.uint8]:
        """The state each miner says it is in, of the last round."""
        return self.fleet.states()

    # -- polling ------------------------------------------------------------------------------------------------------

    async def _poll_on(self, period_s: float) -> None:
        while True:
            began_s = self._clock.monotonic_s()
            reading = await self._poll(with_modes=self._round % READ_MODES_EACH == 0)
            self._on_reading(reading)
            took_s = self._clock.monotonic_s() - began_s
            metrics.ROUND_SECONDS.observe(took_s)
            await asyncio.sleep(max(period_s - took_s, 0.0))

    async def _poll(self, *, with_modes: bool) -> Reading:
        """One round; its instant is its beginning, so that no sample in it is older."""
        self._round += 1
        at_s = self._clock.now().timestamp()
        due = [miner for miner in self.fleet.by_slot.values() if miner.next_round <= self._round]
        found: Counter[str] = Counter()

        async def ask(miner: Miner) -> None:
            found[await self._ask(miner, with_modes=with_modes)] += 1

        await spread(due, self._options.concurrency, ask)
        for result, times in found.items():
            metrics.CALLS.labels("poll", result).inc(times)
        return await self._reading(at_s)

    async def _ask(self, miner: Miner, *, with_modes: bool) -> str:
        with_modes = miner.device is None or (with_modes and miner.next_modes <= self._round)
        reading = self._read(miner, with_modes=with_modes)
        try:
            telemetry = await one_turn(reading, miner.address, self._options.deadline_s)
        except HcpError as error:
            if not miner.failures:
                self._log.info("a miner can't be read", slot=miner.slot, error=str(error))
            miner.failed(self._round, with_modes=with_modes)
            return kind_of(error)
        whole = telemetry if with_modes else _with_mode_of(miner.telemetry, telemetry)
        miner.answered(whole, with_modes=with_modes)
        return "ok"

    async def _read(self, miner: Miner, *, with_modes: bool) -> Telemetry:
        if miner.device is None:
            miner.device = await make_device(miner.address, self._options, self._the_client)
        return await (miner.device.read_back() if with_modes else miner.device.read())

    async def _reading(self, at_s: float) -> Reading:
        power_w, evidence = self.fleet.power()
        by_feeder_w = await self._read_meters()
        if by_feeder_w is not None:
            squared = square_with_meters(power_w, evidence, self.fleet.slots_of_feeder, by_feeder_w, self.fleet.full_w)
            power_w, evidence = squared.power_w, squared.evidence
            for feeder_id, beyond_w in squared.beyond_w.items():
                metrics.METER_BEYOND_WATTS.labels(feeder_id).set(beyond_w)
        return Reading(
            at_s, power_w, evidence, self._issues.take(self.fleet.issues()), self.fleet.hot(), *self.fleet.told()
        )

    async def _read_meters(self) -> Mapping[str, float] | None:
        """IT watts by feeder; None without meters, or while they can't be read: said once, and again when they can."""
        if self._meters is None:
            return None
        try:
            by_feeder_w = await self._meters.read()
        except (DeviceUnreachableError, DeviceRefusedError, DeviceReplyError) as error:
            metrics.CALLS.labels("meters", kind_of(error)).inc()
            if not self._meter_problem:
                self._log.warning("the feeders' meters can't be read: power is as the miners say", error=str(error))
            self._meter_problem = str(error)
            return None
        metrics.CALLS.labels("meters", "ok").inc()
        if self._meter_problem:
            self._log.info("the feeders' meters can be read again")
        self._meter_problem = ""
        return by_feeder_w

    @property
    def _the_client(self) -> httpx.AsyncClient:
        if self._client is None:
            raise DeviceUnreachableError("the miners are not connected")
        return self._client


def _with_mode_of(before: Telemetry | None, now: Telemetry) -> Telemetry:
    """A poll without the mode keeps the last one read."""
    if before is None or now.is_asleep is not None:
        return now
    state = now.state_told if now.state_told is not None else before.state_told
    return replace(now, is_asleep=before.is_asleep, state_told=state)
