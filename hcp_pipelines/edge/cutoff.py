"""A gateway without an owner: it holds its last mix, then takes the fallback plan, in waves under the ramps (DESIGN §7.8).

It holds for as long as the last price that an owner told it is fresh, and `fallback_after_s` at least.
"""

import asyncio
import math
from datetime import datetime

import numpy as np
import structlog

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.local import LocalActions
from hcp_pipelines.edge.owners import Owners
from hcp_pipelines.edge.shape import UNKNOWN_STATE
from hcp_pipelines.policy.fallback import fallback_targets
from hcp_pipelines.policy.waves import DwellLocks, plan_wave
from hcp_pipelines.wire import edge_v1_pb2 as pb

LOOK_EACH_S = 0.5


class CutOff:
    """Watches how long nobody has been heard."""

    def __init__(
        self, config: FacilityConfig, devices: Devices, local: LocalActions, owners: Owners, clock: SystemClock
    ) -> None:
        self._config, self._devices, self._local, self._owners, self._clock = config, devices, local, owners, clock
        self._heard_at_s = clock.now().timestamp()
        self._price_at_s = -math.inf  # of the last price that an owner told
        self._is_telling = False
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
        if heartbeat is not None and heartbeat.price_at:
            self._price_at_s = min(max(self._price_at_s, _instant_s(heartbeat.price_at)), now_s)

    async def watch(self) -> None:
        """Look on and on, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            if self._clock.now().timestamp() <= self.begins_at_s or not self._owners.epoch:
                continue
            try:
                await self._take_wave()
            except StorageError as error:
                self._log_line.error("the fallback plan could not be stored; tried again", error=str(error))

    async def _take_wave(self) -> None:
        """As much of the static plan of the facility file, which needs no price, as the ramps have room for."""
        devices, shape = self._devices, self._devices.book.shape
        async with devices.turn:
            now_s = self._clock.now().timestamp()
            states = self._believed()
            eligible = devices.shape.is_there & ~devices.bars.locked & ~devices.bars.dark
            targets = fallback_targets(shape, self._config.fallback, shape.counts(states, eligible))
            barred = DwellLocks(devices.bars.may_not_rise, np.zeros_like(eligible))
            headroom = devices.book.headroom(now_s)
            plan = plan_wave(shape, states, eligible, targets, headroom, self._rng, locked=barred)
            moves = [(move.to_state, move.slots) for move in plan.moves]
            if not moves:
                return
            if not self._is_telling:
                self._is_telling = True
                self._log_line.warning("no owner: taking the fallback plan", silent_since=self._heard_at_s)
            await self._local.act("fallback", ReasonCode.FALLBACK_PLAN, moves)

    def _believed(self) -> "np.typing.NDArray[np.uint8]":
        """[n] states; what is not known of a device is taken for its group's highest: the plan is then told to it."""
        shape, states = self._devices.shape, self._devices.states
        highest = np.where(shape.has_state, shape.power_kw, -1).argmax(axis=1).astype(np.uint8)
        is_unknown = (states == UNKNOWN_STATE) & shape.is_there
        return np.where(is_unknown, highest[shape.group_of_slot], states)


def _instant_s(text: str) -> float:
    """Unix seconds; long ago where the text is no instant with an offset."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return -math.inf
    return at.timestamp() if at.tzinfo is not None else -math.inf
