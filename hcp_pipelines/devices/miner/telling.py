"""Telling miners their states: at once, later again those that could not be reached, and never what is no longer wanted."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import structlog

from hcp_pipelines.devices.again import Tasks, passing, tell_again
from hcp_pipelines.devices.miner import metrics
from hcp_pipelines.devices.miner.drive import drive
from hcp_pipelines.devices.miner.evidence import state_of
from hcp_pipelines.devices.miner.fleet import Miner, MinerFleet
from hcp_pipelines.devices.miner.make import make_device
from hcp_pipelines.devices.miner.profiles import ProfileStore
from hcp_pipelines.devices.miner.telemetry import Level, MinerOptions, Telemetry
from hcp_pipelines.devices.work import kind_of, may_pass, one_devices, spread
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import (
    DeviceRefusedError,
    DeviceReplyError,
    DeviceUnreachableError,
    HcpError,
    StorageError,
)
from hcp_pipelines.wire.slots import Slots

FAILURES_SHOWN = 5  # addresses and errors in one log line
SLOTS_SHOWN = 20

_Task = asyncio.Task[tuple[Slots, Slots]]


@dataclass
class _Told:
    """What came of a command: whom it could not be told to, and who reads back another mode."""

    name: str
    refused: dict[int, HcpError] = field(default_factory=dict)
    unchanged: list[int] = field(default_factory=list)


class Teller:
    """The commands under way of one site, over one client; `close` ends them."""

    def __init__(
        self, fleet: MinerFleet, options: MinerOptions, folder: Path, clock: Clock, client: httpx.AsyncClient
    ) -> None:
        self._fleet, self._options, self._clock, self._client = fleet, options, clock, client
        self._profiles = ProfileStore(folder)
        self._tasks = Tasks()
        self._at_once = asyncio.Semaphore(options.concurrency)
        self._log = structlog.get_logger("devices.miner")

    def tell(self, name: str, state: int, wanted: Slots) -> _Task:
        """Begin; the task gives (accepted, refused) once every miner was told, or could not be."""
        ticket = self._fleet.give_ticket(wanted.tolist())
        return self._tasks.begin(self._tell_all(name, state, wanted, ticket))

    async def close(self) -> None:
        """End what is under way."""
        await self._tasks.close()
        await self._profiles.close()

    async def _tell_all(self, name: str, state: int, wanted: Slots, ticket: int) -> tuple[Slots, Slots]:
        told = _Told(name)

        async def tell(slot: int) -> None:
            miner = self._fleet.by_slot.get(slot)
            level = miner.group.level(state) if miner else None
            if miner is None or level is None:
                told.refused[slot] = DeviceRefusedError(f"slot {slot}: no miner, or not with state {state}")
            else:
                await self._tell(miner, level, ticket, told)

        await spread(wanted.tolist(), self._options.concurrency, tell)
        self._report(told)
        later = [self._fleet.by_slot[slot] for slot in passing(told.refused)]
        if later:
            self._tasks.begin(self._tell_later(name, state, later, ticket))
        is_refused = np.isin(wanted, np.array(sorted(told.refused), dtype=np.uint32))
        return wanted[~is_refused], wanted[is_refused]

    async def _tell_later(self, name: str, state: int, miners: Sequence[Miner], ticket: int) -> None:
        """Behind the reply; what the last try said is reported."""
        told, left = _Told(name), list(miners)

        async def tell(miner: Miner) -> None:
            level = miner.group.level(state)
            if level is not None:
                await self._tell(miner, level, ticket, told)

        async def tell_those_left() -> Mapping[int, HcpError]:
            told.refused.clear()
            await spread(left, self._options.concurrency, tell)
            left[:] = [miner for miner in left if may_pass(told.refused.get(miner.slot))]
            return told.refused

        await tell_again(tell_those_left, is_over=lambda: True)
        self._report(told)

    async def _tell(self, miner: Miner, level: Level, ticket: int, told: _Told) -> None:
        """Tell one miner, and read back. Nothing once a newer command is there."""
        async with self._at_once, miner.lock:
            if miner.ticket != ticket:
                return
            try:
                telemetry = await one_devices(self._drive(miner, level), miner.address)
            except (DeviceUnreachableError, DeviceReplyError, DeviceRefusedError, StorageError) as error:
                told.refused[miner.slot] = error
                metrics.CALLS.labels("command", kind_of(error)).inc()
                return
        metrics.CALLS.labels("command", "ok").inc()
        if state_of(telemetry, miner.group.levels) not in (level.state, None):
            told.unchanged.append(miner.slot)

    async def _drive(self, miner: Miner, level: Level) -> Telemetry:
        if miner.device is None:
            miner.device = await make_device(miner.address, self._options, self._client)
        now_s = self._clock.now().timestamp()
        on_its_way = miner.is_on_its_way(level, now_s)
        telemetry = await drive(
            miner.device, miner.address, level, miner.group, self._profiles, is_on_its_way=on_its_way
        )
        if not on_its_way:
            miner.told, miner.told_at_s = int(level.state), now_s
        miner.answered(telemetry)
        return telemetry

    def _report(self, told: _Told) -> None:
        """One line a command, not one a device: whole halls can be down."""
        if told.unchanged:
            metrics.CALLS.labels("command", "not_taken").inc(len(told.unchanged))
            shown = told.unchanged[:SLOTS_SHOWN]
            what = "miners say yes and read back another mode"
            self._log.warning(what, command=told.name, devices=len(told.unchanged), slots=shown)
        if told.refused:
            examples = [f"{slot}: {error}" for slot, error in list(told.refused.items())[:FAILURES_SHOWN]]
            kinds = Counter(kind_of(error) for error in told.refused.values())
            self._log.warning("miners were not told", command=told.name, **kinds, examples=examples)
