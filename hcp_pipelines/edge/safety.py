"""Local safety: what a gateway does at once and by itself, whoever owns the facility (DESIGN §7.8).

Devices that are too hot go down, and so does load on a feeder over its limit. A feeder that has lost power is not driven: its
devices are told their lowest state when it returns, so that they don't all rise at once; who raises them again does so in waves.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import structlog

from hcp_pipelines.devices.site import Reading
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import ReasonCode
from hcp_pipelines.edge import metrics
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.cutoff import CutOff
from hcp_pipelines.edge.devices import Devices
from hcp_pipelines.edge.local import LocalActions, Move
from hcp_pipelines.edge.plant import Plant, PlantReading
from hcp_pipelines.edge.reduction import pick, present_kw
from hcp_pipelines.edge.tasks import Tasks
from hcp_pipelines.wire import edge_v1_pb2 as pb
from hcp_pipelines.wire.slots import Slots

SAMPLES = 2  # in a row before it is acted on
OVER_FRACTION = 1.03  # of a feeder's limit: devices differ by so much, and no breaker trips below 1.05 (IEC 60947-2)
TO_FRACTION, CLEAR_FRACTION = 0.98, 1.0  # load is brought below the first, and may rise again below the second
CLEAR_AFTER_S = 300.0  # simulated: so long it must have been well before power may rise again
DARK_FRACTION = 0.5  # of what devices draw in their lowest states: a feeder that draws less has no power

Bools = npt.NDArray[np.bool_]


@dataclass
class _Feeder:
    """What is known of one feeder."""

    feeder_id: str
    mine: Bools
    lowest_kw: float  # what its devices draw in their lowest states, all in
    limit_kw: float
    times_over: int = 0
    times_dark: int = 0
    times_lit: int = 0
    is_over: bool = False
    is_dark: bool = False
    well_since_s: float = math.inf
    acted_at_s: float = -math.inf


class Safety:
    """Looks at every reading of devices and plant."""

    def __init__(
        self,
        config: FacilityConfig,
        devices: Devices,
        local: LocalActions,
        plant: Plant,
        cutoff: CutOff,
        clock: SystemClock,
        tasks: Tasks,
    ) -> None:
        self._devices, self._local, self._plant, self._cutoff = devices, local, plant, cutoff
        self._clock, self._tasks = clock, tasks
        self._rng = np.random.default_rng()
        self._feeders = [self._feeder(config, feeder_id) for feeder_id in sorted({g.feeder_id for g in config.groups})]
        self._feeder_of_slot = np.full(devices.shape.slots, len(self._feeders))  # one more stands for empty slots
        for n, feeder in enumerate(self._feeders):
            self._feeder_of_slot[feeder.mine] = n
        self._cool_since_s = np.full(devices.shape.slots, -math.inf)
        self._settle_s = float(devices.shape.settle_s.max(initial=0.0))
        self._log = structlog.get_logger("edge").bind(facility_id=config.facility_id)
        devices.listeners.append(self.look)
        devices.held_back = self._hold_back
        plant.listeners.append(self._look_at_breakers)

    def look(self, reading: Reading) -> None:
        """Judge a reading of the devices, and act on it."""
        now_s = self._clock.now().timestamp()
        self._look_for_heat(reading, now_s)
        metered = self._plant.newest.feeder_kw if self._plant.newest is not None else {}
        for feeder, drawn_kw, is_known in zip(self._feeders, *self._drawn(), strict=True):
            if feeder.feeder_id not in metered:  # judged by the devices: even asleep they draw something
                self._judge_power(feeder, is_known and drawn_kw < DARK_FRACTION * feeder.lowest_kw)
            if not feeder.is_dark:
                self._judge_load(feeder, metered.get(feeder.feeder_id, drawn_kw), now_s)

    # -- heat ---------------------------------------------------------------------------------------------------------

    def _look_for_heat(self, reading: Reading, now_s: float) -> None:
        bars, hot = self._devices.bars, np.zeros_like(self._devices.bars.hot)
        hot[reading.hot[reading.hot < len(hot)]] = True
        self._cool_since_s[hot] = now_s
        fresh = hot & ~bars.hot
        still = self._cool_since_s + CLEAR_AFTER_S > now_s
        bars.hot = (bars.hot & still) | hot
        slots = np.flatnonzero(fresh).astype(np.uint32)
        if len(slots):
            moves = self._local.down(slots)
            self._act("safety", ReasonCode.LOCAL_SAFETY, moves, f"{len(slots)} devices over their model's temperature")

    # -- load ---------------------------------------------------------------------------------------------------------

    def _judge_load(self, feeder: _Feeder, load_kw: float, now_s: float) -> None:
        feeder.times_over = feeder.times_over + 1 if load_kw > feeder.limit_kw * OVER_FRACTION else 0
        if load_kw > feeder.limit_kw * CLEAR_FRACTION:
            feeder.well_since_s = math.inf
        elif math.isinf(feeder.well_since_s):
            feeder.well_since_s = now_s
        if feeder.is_over and now_s - feeder.well_since_s >= CLEAR_AFTER_S:
            feeder.is_over = False
            self._devices.bars.overloaded &= ~feeder.mine
        if feeder.times_over >= SAMPLES and now_s - feeder.acted_at_s > self._settle_s:
            self._relieve(feeder, load_kw, now_s)

    def _relieve(self, feeder: _Feeder, load_kw: float, now_s: float) -> None:
        devices = self._devices
        feeder.is_over, feeder.acted_at_s = True, now_s
        devices.bars.overloaded |= feeder.mine
        draws = present_kw(devices.shape, devices.states, devices.power_kw)
        shed_kw = load_kw - feeder.limit_kw * TO_FRACTION
        slots, _ = pick(devices.shape, devices.states, draws, shed_kw, feeder.mine, self._rng)
        detail = f"feeder {feeder.feeder_id} at {load_kw:.1f} kW, its limit is {feeder.limit_kw:.1f}"
        self._act("safety", ReasonCode.LOCAL_SAFETY, self._local.down(slots), detail)

    def _drawn(self) -> tuple[list[float], list[bool]]:
        """By feeder: all-in kW by the devices' own word, and whether that of each is known."""
        power_kw, feeders = self._devices.power_kw, len(self._feeders)
        is_known = np.isfinite(power_kw)
        all_in_kw = np.where(is_known, power_kw, 0) * self._devices.shape.pue_of_slot
        drawn_kw = np.bincount(self._feeder_of_slot, weights=all_in_kw, minlength=feeders + 1)[:feeders]
        unknown = np.bincount(self._feeder_of_slot[~is_known], minlength=feeders + 1)[:feeders]
        return drawn_kw.tolist(), (unknown == 0).tolist()

    # -- power --------------------------------------------------------------------------------------------------------

    def _look_at_breakers(self, reading: PlantReading) -> None:
        for feeder in self._feeders:
            if feeder.feeder_id in reading.feeder_kw:
                self._judge_power(feeder, feeder.feeder_id in reading.open_feeders)

    def _judge_power(self, feeder: _Feeder, is_without: bool) -> None:
        feeder.times_dark = feeder.times_dark + 1 if is_without else 0
        feeder.times_lit = 0 if is_without else feeder.times_lit + 1
        if not feeder.is_dark and feeder.times_dark >= SAMPLES:
            self._shed(feeder)
        elif feeder.is_dark and feeder.times_lit >= SAMPLES:
            self._light(feeder)
        dark = int((feeder.mine & ~self._devices.bars.locked).sum()) if feeder.is_dark else 0
        metrics.DARK.labels(self._devices.shape.facility_id, feeder.feeder_id).set(dark)

    def _shed(self, feeder: _Feeder) -> None:
        """What is without power counts as down, and is not driven."""
        feeder.is_dark = True
        self._devices.bars.dark |= feeder.mine
        slots = np.flatnonzero(feeder.mine).astype(np.uint32)
        self._cutoff.rest(slots, self._devices.states[slots])
        self._act("shed", ReasonCode.SHED_BY_RELAY, self._local.down(slots), f"feeder {feeder.feeder_id} has no power")

    def _light(self, feeder: _Feeder) -> None:
        """Power is back: each device is told its lowest state, whatever it woke into."""
        feeder.is_dark = False
        self._devices.bars.dark &= ~feeder.mine
        slots = np.flatnonzero(feeder.mine).astype(np.uint32)
        detail = f"feeder {feeder.feeder_id} has power again"
        self._act("power_returned", ReasonCode.RECOVERY, self._local.to_lowest(slots), detail)

    # -- acting -------------------------------------------------------------------------------------------------------

    def _act(self, kind: str, reason: ReasonCode, moves: list[Move], detail: str) -> None:
        self._log.warning("local safety", kind=kind, detail=detail, devices=sum(len(slots) for _, slots in moves))
        word = pb.LocalEvent(actor="gateway", detail=detail)
        self._tasks.spawn(self._local.act_at_once(kind, reason, moves or self._local.nothing(), word))

    def _hold_back(self, slots: Slots) -> None:
        detail = f"{len(slots)} devices were taken down while a command that raises them was stored"
        self._act("safety", ReasonCode.LOCAL_SAFETY, self._local.to_lowest(slots), detail)

    def _feeder(self, config: FacilityConfig, feeder_id: str) -> _Feeder:
        shape = self._devices.shape
        groups = [g for g, group in enumerate(config.groups) if group.feeder_id == feeder_id]
        mine = np.isin(shape.group_of_slot, groups)
        slots = np.flatnonzero(mine).astype(np.uint32)
        lowest_kw = shape.expected_kw(slots, shape.lowest[shape.group_of_slot[slots]])
        return _Feeder(feeder_id, mine, lowest_kw, config.feeder_limits_kw.get(feeder_id, math.inf))
