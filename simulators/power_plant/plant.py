"""Power and cooling of one site in time: breakers, relay and cooling plant watch what the site draws, and cut what they must.

The site moves the plant (`next_after`, `step`) while it integrates its meter, so that a trip falls on its instant however
seldom anybody looks. Steps lie on a grid of simulated time: each second where a breaker could trip, else every ten or sixty.
What a device does without power is in `fleet`, what a Modbus client sees in `registers`, what outlives the process in
`memory`.
"""

import logging
from collections.abc import Callable, Iterable
from math import floor
from typing import Protocol

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from simulators.power_plant.breaker import NEVER_BELOW, Breaker, BreakerState
from simulators.power_plant.cooling import CoolingPlant
from simulators.power_plant.frequency import GridFrequency
from simulators.power_plant.pumps import PumpScript
from simulators.power_plant.topology import Point, Topology
from simulators.settings import SiteConfig
from simulators.streams import BoolArray, FloatArray

WATCH_S, CONTROL_S, LOOK_S = 1.0, 10.0, 60.0
_SPREAD = 1.02  # devices of a feeder together are at most so much above their table's power

PowerArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Record = Callable[[str, str, str, float], None]  # what, name, state, at_s
OnRestart = Callable[[int, BitMap], None]  # state, slots

log = logging.getLogger("world.plant")


class PoweredSite(Protocol):
    """What the plant needs of a site."""

    config: SiteConfig
    at_s: float

    def advance(self, at_s: float) -> None:
        """Move the site, and with it this plant, to an instant."""
        ...

    def power_w(self, at_s: float) -> npt.NDArray[np.float32]:
        """IT power of every slot, watts."""
        ...

    def set_without_power(self, dead: BoolArray) -> dict[int, BitMap]:
        """Which slots have no power from now on; the others have. Returned: whose state a restart has changed, by state."""
        ...


class Plant:
    """One site's plant. `record` is told each change of state, in order."""

    def __init__(
        self,
        site: PoweredSite,
        frequency: GridFrequency,
        outdoor_celsius: Callable[[float], float],
        record: Record | None = None,
        pumps: PumpScript | None = None,
    ) -> None:
        config = site.config
        self.frequency = frequency
        self.topology = Topology(config)
        self.relay = config.plant.relay
        self.is_shed = False
        self.relay_trips = 0
        self.relay_tripped_at_s = 0.0
        multiplier = config.plant.breaker_time_multiplier
        self.breakers = {p.name: Breaker(p.limit_w or 1.0, multiplier) for p in self.topology.breakers}
        self.record = record or _forget
        self.on_restart: OnRestart = _pass
        self._site = site
        self._interruptible = [p.name for p in self.topology.breakers if p.is_interruptible]
        worst_w = _worst_w(config)
        self._can_trip = any(
            p.sum_of(worst_w) * config.pue * _SPREAD > NEVER_BELOW * (p.limit_w or 1.0) for p in self.topology.breakers
        )
        self.design_w = float(worst_w.sum())  # IT power with every device in its highest state
        self.cooling: CoolingPlant | None = None
        if config.plant.cooling:
            self.cooling = CoolingPlant(config.plant.cooling, config.pue, self.design_w, outdoor_celsius, site.at_s)
            self.cooling.step(site.at_s, 0.0, float(site.power_w(site.at_s).sum(dtype=np.float64)))
        self._pumps = pumps or PumpScript(None, 0)
        if self._pumps.failed_at(site.at_s):
            self._fail(self._pumps.failed_at(site.at_s))
        self._stepped_s = site.at_s

    @property
    def pue(self) -> float:
        """All-in over IT power, as of the last step."""
        return self.cooling.pue if self.cooling else self._site.config.pue

    def power_through_w(self, point: Point, it_power_w: PowerArray) -> float:
        """All-in power through a point, watts: the cooling hangs on the feeders it serves."""
        return point.sum_of(it_power_w) * self.pue

    def next_after(self, at_s: float) -> float:
        """The next instant at which `step` is due."""
        step_s = self._step_s
        due_s = (floor(at_s / step_s) + 1) * step_s
        pumps_s = self._pumps.changes_s(at_s, due_s) if self.cooling else []
        return min([due_s, *self._pick_ups_s(at_s, due_s), *self._recalls_s(at_s, due_s), *pumps_s])

    def step(self) -> None:
        """Look at the site where it stands, and act."""
        at_s = self._site.at_s
        since_s, last_s = at_s - self._stepped_s, self._stepped_s
        self._stepped_s = at_s
        it_power_w = self._site.power_w(at_s)
        cut = [name for name in self.breakers if self._has_tripped(name, it_power_w, since_s)] if self._watches else []
        if self._pumps.changes_s(last_s, at_s):
            self._fail(self._pumps.failed_at(at_s))
        if self._pick_ups_s(last_s, at_s) and not self.is_shed:
            cut += self._shed()
        if self.cooling and self.cooling.step(at_s, since_s, float(it_power_w.sum(dtype=np.float64))):
            cut += self._trip_hot()
        if cut:
            self.take_effect()
        if self._recalls_s(last_s, at_s):
            self.recall(at_s)
        if self.cooling and self.cooling.resets_itself_now and not self.is_shed:
            self._come_back(at_s)

    def take_effect(self) -> None:
        """Tell the site which slots are without power: those behind an open breaker."""
        dead = np.zeros(self._site.config.slots, dtype=np.bool_)
        for name, breaker in self.breakers.items():
            if not breaker.is_closed:
                for first, end in self.topology.points[name].runs:
                    dead[first:end] = True
        for state, slots in self._site.set_without_power(dead).items():
            self.on_restart(state, slots)

    def command(self, name: str, is_close: bool, at_s: float) -> bool:
        """Open or close a breaker; False: it is tripped or shed, and does not close."""
        self._site.advance(at_s)
        breaker = self.breakers[name]
        if breaker.is_closed == is_close:
            return True
        if breaker.state not in (BreakerState.OPEN, BreakerState.CLOSED):
            return not is_close
        self._set(name, BreakerState.CLOSED if is_close else BreakerState.OPEN)
        self.take_effect()
        return True

    def reset(self, name: str, at_s: float) -> bool:
        """Acknowledge a trip, after which the breaker can be closed; False: its cause is still there."""
        self._site.advance(at_s)
        state = self.breakers[name].state
        is_hot = state == BreakerState.TRIPPED_HOT and self.cooling is not None and self.cooling.is_tripped
        if state == BreakerState.SHED_BY_RELAY or is_hot:
            return False
        if state in (BreakerState.TRIPPED, BreakerState.TRIPPED_HOT):
            self._set(name, BreakerState.OPEN)
        return True

    def recall(self, at_s: float) -> bool:
        """Close what the relay has opened; False: the frequency is still below its set-point."""
        self._site.advance(at_s)
        if not self.is_shed:
            return True
        if self.frequency.hz(self._site.at_s) < self.relay.trip_hz:
            return False
        self.is_shed = False
        self.record("relay", "relay", "in_service", self._site.at_s)
        for name, breaker in self.breakers.items():
            if breaker.state == BreakerState.SHED_BY_RELAY:
                self._set(name, BreakerState.CLOSED)
        self.take_effect()
        return True

    def reset_cooling(self, at_s: float) -> bool:
        """Acknowledge the interlock's trip; False: the supply is still too warm."""
        self._site.advance(at_s)
        if self.cooling is None or not self.cooling.is_tripped:
            return True
        if not self.cooling.reset():
            return False
        self.record("cooling", "cooling", "in_service", self._site.at_s)
        return True

    def set_failed_pumps(self, pumps: Iterable[int], at_s: float) -> None:
        """Which pumps stand still from now on, by number from 0; nothing happens where there is no cooling plant."""
        self._site.advance(at_s)
        self._fail(pumps)

    def _fail(self, pumps: Iterable[int]) -> None:
        if self.cooling is None:
            return
        failed = frozenset(pump for pump in pumps if 0 <= pump < self.cooling.config.pumps)
        for pump in sorted(failed ^ self.cooling.failed_pumps):
            self.record("pump", str(pump), "failed" if pump in failed else "running", self._site.at_s)
        self.cooling.failed_pumps = failed

    @property
    def _watches(self) -> bool:
        """Whether a breaker may trip: else none of them can warm up."""
        return self._can_trip or any(breaker.heat > 0.0 for breaker in self.breakers.values())

    @property
    def _step_s(self) -> float:
        if self._watches:
            return WATCH_S
        return CONTROL_S if self.cooling else LOOK_S

    def _pick_ups_s(self, first_s: float, last_s: float) -> list[float]:
        return self.frequency.pick_ups_s(self.relay, first_s, last_s) if self._interruptible else []

    def _recalls_s(self, first_s: float, last_s: float) -> list[float]:
        return self.frequency.recalls_s(first_s, last_s) if self.is_shed else []

    def _has_tripped(self, name: str, it_power_w: PowerArray, seconds: float) -> bool:
        breaker = self.breakers[name]
        if not breaker.carry(self.power_through_w(self.topology.points[name], it_power_w), seconds):
            return False
        self._noted(name)
        return True

    def _shed(self) -> list[str]:
        self.is_shed = True
        self.relay_trips += 1
        self.relay_tripped_at_s = self._site.at_s
        self.record("relay", "relay", "shed_by_relay", self._site.at_s)
        cut = [name for name in self._interruptible if self.breakers[name].is_closed]
        for name in cut:
            self._set(name, BreakerState.SHED_BY_RELAY)
        return cut

    def _trip_hot(self) -> list[str]:
        self.record("cooling", "cooling", "tripped", self._site.at_s)
        cut = [name for name, breaker in self.breakers.items() if breaker.is_closed]
        for name in cut:
            self._set(name, BreakerState.TRIPPED_HOT)
        return cut

    def _come_back(self, at_s: float) -> None:
        """Close what the interlock has opened, by the plant's own hand; a relay's recall comes first."""
        if not self.reset_cooling(at_s):
            return
        for name, breaker in self.breakers.items():
            if breaker.state == BreakerState.TRIPPED_HOT:
                self._set(name, BreakerState.CLOSED)
        self.take_effect()

    def _set(self, name: str, state: BreakerState) -> None:
        breaker = self.breakers[name]
        breaker.state = state
        breaker.trips += state == BreakerState.TRIPPED_HOT
        self._noted(name)

    def _noted(self, name: str) -> None:
        state = self.breakers[name].state.name.lower()
        self.record("breaker", name, state, self._site.at_s)
        log.info("site %s: breaker %s is %s", self._site.config.site, name, state)


def _worst_w(config: SiteConfig) -> FloatArray:
    """IT power of every slot in its highest state, watts."""
    worst_w = np.zeros(config.slots)
    for group in config.groups:
        worst_w[group.first_slot : group.end_slot] = max(state.power_w for state in group.states)
    return worst_w


def _pass(_state: int, _slots: BitMap) -> None:
    """Nobody asks."""


def _forget(_what: str, _name: str, _state: str, _at_s: float) -> None:
    """Keep no record."""
