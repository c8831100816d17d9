"""A gateway without an owner: it holds its last mix, then takes the fallback plan, in waves under the ramps (DESIGN §7.8).

It holds for as long as the last price that an owner told it is fresh, and `fallback_after_s` at least. Until then devices
that had lost power come back to what they did, in waves too; with an owner, that is the owner's to do.
Nothing of all this takes load below the floor of an obligation (`floors.py`).
"""

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.edge.bars import Bools, States
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.floors import Floors
from hcp_pipelines.edge.local import LocalActions, Move
from hcp_pipelines.edge.local_prices import PriceSource
from hcp_pipelines.edge.owners import Owners
from hcp_pipelines.edge.policies import Policies
from hcp_pipelines.edge.shape import UNKNOWN_STATE
from hcp_pipelines.policy.arrays import Ints
from hcp_pipelines.policy.dwell import DwellLocks
from hcp_pipelines.policy.fallback import fallback_targets
from hcp_pipelines.policy.waves import Pool, plan_wave
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots

LOOK_EACH_S = 0.5
INDICES_MAX = 1_000  # a policy has a dozen
INDEX_NAME_MAX = 100  # characters


class CutOff:
    """Watches how long nobody has been heard."""

    def __init__(
        self,
        config: FacilityConfig,
        devices: Devices,
        local: LocalActions,
        owners: Owners,
        policies: Policies,
        floors: Floors,
        clock: SystemClock,
    ) -> None:
        self._config, self._devices, self._local, self._owners, self._clock = config, devices, local, owners, clock
        self._floors = floors
        self._policies, self.prices = policies, PriceSource(config.local_prices, clock)
        self._indices: dict[str, float] = {}  # live ones, as an owner last told them
        self._heard_at_s = clock.now().timestamp()
        self._price_at_s = -math.inf  # of the last price that an owner told
        self._is_telling = False
        self._rested = np.full(
            devices.shape.slots, UNKNOWN_STATE, dtype=np.uint8
        )  # what they did before power was lost
        self._rng = np.random.default_rng()
        self._log_line = structlog.get_logger("edge").bind(facility_id=config.facility_id)

    @property
    def begins_at_s(self) -> float:
        """Simulated instant from which the fallback plan holds, unless an owner is heard before."""
        fresh_until_s = self._price_at_s + self._config.price_staleness_s
        return max(self._heard_at_s + self._config.fallback_after_s, fresh_until_s)

    def hear(self, heartbeat: pb.Heartbeat | None = None) -> None:
        """An owner is there."""
        now_s = self._clock.now().timestamp()
        self._heard_at_s, self._is_telling = now_s, False
        if heartbeat is not None:
            self._indices = newest(self._indices, heartbeat.indices)
        if heartbeat is not None and heartbeat.price_at:
            self._price_at_s = min(max(self._price_at_s, _instant_s(heartbeat.price_at)), now_s)

    def rest(self, slots: Slots, states: States) -> None:
        """Devices that lose power now, and what they did."""
        self._rested[slots] = states

    async def watch(self) -> None:
        """Look on and on, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            try:
                await self._look()
            except StorageError as error:
                self._log_line.error("a wave could not be stored; tried again", error=str(error))

    async def _look(self) -> None:
        if self._owners.epoch and self._clock.now().timestamp() > self.begins_at_s:
            self._rested[:] = UNKNOWN_STATE
            if not await self._follow_policy():
                await self._take_fallback()
        elif self._owners.is_owned:
            self._rested[~self._devices.bars.dark] = UNKNOWN_STATE
        else:
            await self._restore()

    async def _follow_policy(self) -> bool:
        """Where the gateway has a fresh price of its own, and a policy: what that asks for; whether it does."""
        price = self.prices.price(self._config.price_staleness_s)
        if price is None:
            return False
        shape = self._devices.book.shape
        async with self._devices.turn:
            pool = Pool(shape, self._devices.states, self._eligible())
            targets = self._policies.targets(pool.counts, price, self._indices)
            if targets is None:
                return False
            moves = self._wave(pool, targets)
            if moves:
                word = pb.LocalEvent(detail=f"policy {self._policies.policy_id} at a local price of {price:.2f} $/MWh")
                await self._local.act("policy", ReasonCode.ECONOMICS, moves, word)
        return True

    async def _take_fallback(self) -> None:
        """As much of the static plan of the facility file, which needs no price, as the ramps have room for."""
        shape = self._devices.book.shape
        async with self._devices.turn:
            pool = Pool(shape, self._believed(), self._eligible())
            targets = fallback_targets(shape, self._config.fallback, pool.counts)
            moves = self._wave(pool, targets)
            if moves and not self._is_telling:
                self._is_telling = True
                self._log_line.warning("no owner: taking the fallback plan", silent_since=self._heard_at_s)
            if moves:
                await self._local.act("fallback", ReasonCode.FALLBACK_PLAN, moves)

    async def _restore(self) -> None:
        """Devices whose power has returned, to what they did before."""
        shape, devices = self._devices.book.shape, self._devices
        async with devices.turn:
            eligible = self._eligible() & (self._rested != UNKNOWN_STATE)
            if not eligible.any():
                return
            moves = self._wave(Pool(shape, devices.states, eligible), shape.counts(self._rested, eligible))
            if moves:
                await self._local.act("restore", ReasonCode.RECOVERY, moves)
            self._rested[eligible & (devices.states == self._rested)] = UNKNOWN_STATE

    def _eligible(self) -> Bools:
        return self._devices.shape.is_there & ~self._devices.bars.locked & ~self._devices.bars.dark

    def _wave(self, pool: Pool, targets: Ints) -> list[Move]:
        book, bars = self._devices.book, self._devices.bars
        barred = DwellLocks(bars.may_not_rise, np.zeros_like(pool.eligible))
        now_s = self._clock.now().timestamp()
        kept = self._floors.keep(book.shape, pool.counts, targets, now_s)
        plan = plan_wave(pool, kept, book.headroom(now_s), self._rng, locked=barred)
        return [(move.to_state, move.slots) for move in plan.moves]

    def _believed(self) -> States:
        """[n] states; what is not known of a device is taken for its group's highest: the plan is then told to it."""
        shape, states = self._devices.shape, self._devices.states
        highest = np.where(shape.has_state, shape.power_kw, -1).argmax(axis=1).astype(np.uint8)
        is_unknown = (states == UNKNOWN_STATE) & shape.is_there
        return np.where(is_unknown, highest[shape.group_of_slot], states)


def newest(known: Mapping[str, float], told: Mapping[str, float]) -> dict[str, float]:
    """What is known with what was told now: finite numbers of short names, and where they get too many those of late.

    >>> newest({"a": 1.0, "b": 2.0}, {"a": 3.0, "c": float("nan"), "d" * 101: 4.0})
    {'b': 2.0, 'a': 3.0}
    """
    fit = {name: value for name, value in told.items() if math.isfinite(value) and len(name) <= INDEX_NAME_MAX}
    all_of_them = {name: value for name, value in known.items() if name not in fit} | fit
    return dict(list(all_of_them.items())[-INDICES_MAX:])


def _instant_s(text: str) -> float:
    """Unix seconds; long ago where the text is no instant with an offset."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return -math.inf
    return at.timestamp() if at.tzinfo is not None else -math.inf
