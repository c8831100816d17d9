"""One facility: its devices in simulated time, what befalls them, the revenue meter, and a reading of any device.

Vectorised and lazy: a device costs nothing while it is settled; energy is integrated exactly, not sampled. What a device does
is in `devices`, power in `ramps`, hashing in `work`, heat in `heat` and `thermal`, readings in `physics`. Nothing here knows of
sockets or files.
"""

from collections.abc import Callable, Iterable
from math import inf

import numpy as np
from pyroaring import BitMap

from simulators import faults as f
from simulators.devices import Devices
from simulators.fault_state import Faults
from simulators.heat import Heat
from simulators.physics import Asked, Physics
from simulators.power_plant.plant import Plant
from simulators.ramps import PowerArray, Ramps
from simulators.readings import GpuReading, MinerReading
from simulators.roaring import from_slots, slots
from simulators.settings import SiteConfig
from simulators.site_records import SetResult, SiteState, Surroundings, digest_of, slots_of_feeders
from simulators.streams import BoolArray, FloatArray, IntArray
from simulators.tables import STATE_CODES, ByteArray, Tables
from simulators.weather import Weather

FAULT_RAMP_S = 5.0  # within which a device that stops by itself has stopped
_RAMPS = ("from_w", "to_w", "start_s", "ramp_s", "energy_j")
_DEVICES = ("commanded", "acting", "limit_w", "has_no_pool", "is_dark", "boots_until_s")
_PHYSICS = ("work_done", "full_th_per_s", "awake_since_s", "rise_c")


class Site:
    """One facility's devices and its revenue meter."""

    def __init__(self, config: SiteConfig, seed: int, at_s: float, around: Surroundings | None = None) -> None:
        around = around or Surroundings(Weather(seed))
        self.config = config
        self.devices = config.slots
        self.digest = digest_of(config, seed)
        self.at_s = at_s
        self.energy_wh = 0.0
        self.plant: Plant | None = None
        self.on_restart: Callable[[int, BitMap], None] = _pass
        self.faults = Faults(config.slots, around.schedule, at_s)
        self._weather = around.weather
        self._tables = Tables(config, seed)
        self._everyone = np.arange(self.devices, dtype=np.int64)
        self._feeders = slots_of_feeders(config)
        self._devices = Devices(self._tables, self.faults, at_s)
        self._cut: BoolArray = np.zeros(self.devices, dtype=np.bool_)  # by the plant's breakers
        self._devices.is_dark |= self.faults.mask(f.POWER_LOST, at_s)
        self._heat = Heat(self._tables, self.faults, self.ambient_c(at_s), at_s)
        power_w, hashrate = self._devices.targets(self._everyone, self._heat.allowed_w(self._everyone))
        self._ramps = Ramps(power_w, at_s)
        self._physics = Physics(config.site, self._tables, self._ramps, self._heat.inlet_c(self._everyone), at_s)
        self._physics.full_th_per_s[:] = hashrate
        self.faults.before = self.advance

    @property
    def commanded(self) -> ByteArray:
        """The state code each device says it is in."""
        return self._devices.commanded

    @property
    def reachable(self) -> ByteArray:
        """1 where a device answers; 0 for slots that no group owns, without power, booting, or deaf."""
        return self._tables.known_slots & self._devices.answers(self._everyone, self.at_s)

    def set_state(self, state: int, wanted: BitMap, at_s: float) -> SetResult:
        """Command devices into a state; those already there, or on their way, accept and do nothing."""
        self.advance(at_s)
        able = wanted & self._tables.able[state] if state < STATE_CODES else BitMap()
        index = slots(able)
        answers = self._devices.answers(index, self.at_s)
        accepted = able if answers.all() else from_slots(index[answers])
        changed, diverted = self._devices.command(state, index[answers])
        moved = np.concatenate([changed, *diverted.values()])
        self._refit(moved)
        astray = {into: from_slots(whom) for into, whom in diverted.items()}
        return SetResult(accepted, wanted - accepted, from_slots(changed), astray)

    def put(self, state: int, changed: BitMap, at_s: float) -> None:
        """Do again what the devices' log says was done: whatever faults would make of the command now."""
        self.advance(at_s)
        index = slots(changed)
        self._devices.put(state, index)
        self._refit(index)

    def limit(self, wanted: BitMap, watts: float | None, at_s: float) -> BitMap:
        """Limit the power of devices that answer, or no longer; a GPU's watts are its board's. Returned: who took it."""
        self.advance(at_s)
        index = slots(wanted & BitMap.union(*self._tables.able))
        index = index[self._devices.answers(index, self.at_s)]
        self._devices.limit_w[index] = inf if watts is None else watts
        for slot in index[self._tables.is_gpu[index]].tolist() if watts is not None else ():
            self._devices.limit_w[slot] = self._physics.slot_w(slot, float(watts or 0.0))
        self._refit(index)
        return from_slots(index)

    def cap_power(self, slot: int, board_w: float, at_s: float) -> None:
        """Limit the power of one GPU's board from now on; its limit or more is none.

        Raises:
            KeyError: the slot holds no GPU.
        """
        most_w = self._physics.board_limit_w(slot)
        self.limit(BitMap([slot]), None if board_w >= most_w else board_w, at_s)

    def impose(self, kind: str, wanted: BitMap, at_s: float, until_s: float = inf, xid: int = 0) -> None:
        """Give devices a fault that no schedule knows: consequences of a command, drills, tests. `xid`: what GPUs report."""
        self.advance(at_s)
        index = slots(wanted & BitMap.union(*self._tables.able))
        self.faults.impose(kind, index, self.at_s, until_s, xid)
        self._befall(kind, index)

    def lift(self, kinds: Iterable[str], wanted: BitMap, at_s: float) -> None:
        """Mend devices: their faults of these kinds are over; `xid` among them forgets the last XID."""
        self.advance(at_s)
        index = slots(wanted & BitMap.union(*self._tables.able))
        for kind in kinds:
            self._befall(kind, self.faults.lift(kind, index, self.at_s))

    def advance(self, at_s: float) -> None:
        """Move to an instant: integrate the meter, and stop wherever something happens. Going back does nothing."""
        while True:
            plant_s = self.plant.next_after(self.at_s) if self.plant is not None else inf
            due_s = min(self.faults.next_s, self._heat.next_s, plant_s)
            if due_s > at_s:
                break
            self._integrate(due_s)
            self._happen(due_s)
            if self.plant is not None and plant_s <= due_s:
                self.plant.step()
        self._integrate(at_s)

    def set_without_power(self, dead: BoolArray) -> dict[int, BitMap]:
        """Which slots have no power from now on because a breaker is open; those that get it back boot.

        Returned: the devices whose state a restart has changed, by their state now.
        """
        self._cut = dead.copy()
        return self._relight(self._everyone)

    def power_w(self, at_s: float) -> PowerArray:
        """IT power of every slot, watts."""
        self.advance(at_s)
        return self._ramps.power_w(self.at_s)

    def hashrate_th_per_s(self, at_s: float) -> FloatArray:
        """What every slot really hashes, TH/s."""
        self.advance(at_s)
        return self._physics.hashrate_th_per_s(self._everyone, self.at_s)

    def hashed_th(self, at_s: float) -> FloatArray:
        """Hashes that every slot has done since the world began, TH: what a pool credits."""
        self.advance(at_s)
        return self._physics.hashed_th(self._everyone, self.at_s)

    def energy_j(self, at_s: float) -> FloatArray:
        """IT energy that every slot has used since the world began, joules."""
        self.advance(at_s)
        return self._ramps.energy_of(self._everyone, self.at_s)

    def site_power_w(self, at_s: float) -> float:
        """All-in power at the revenue meter, watts."""
        self.advance(at_s)
        return self._ramps.total_w(self.at_s) * self.pue_at(self.at_s)

    def feeder_power_w(self, feeder_id: str, at_s: float) -> float:
        """All-in power of one feeder, watts; 0 where no group hangs on it."""
        self.advance(at_s)
        index = self._feeders.get(feeder_id)
        if index is None:
            return 0.0
        return float(self._ramps.power_of(index, self.at_s).sum(dtype=np.float64)) * self.pue_at(self.at_s)

    def pue_at(self, at_s: float) -> float:  # noqa: ARG002
        """All-in power over IT power at an instant; constant unless the site has a cooling plant."""
        return self.plant.pue if self.plant else self.config.pue

    def ambient_c(self, at_s: float) -> float:
        """Temperature of the air that enters the devices, °C: outdoors, or what a cooling plant supplies."""
        if self.plant and self.plant.cooling:
            return self.plant.cooling.supply_celsius
        return self.outdoor_c(at_s)

    def outdoor_c(self, at_s: float) -> float:
        """Temperature outdoors, °C."""
        return self._weather.temperature_c(self.config.settlement_point, at_s)

    def miner(self, slot: int, at_s: float) -> MinerReading:
        """The truth about one ASIC.

        Raises:
            KeyError: the slot holds none.
        """
        return self._physics.miner(self._asked(slot, at_s))

    def gpu(self, slot: int, at_s: float) -> GpuReading:
        """The truth about one GPU.

        Raises:
            KeyError: the slot holds none.
        """
        return self._physics.gpu(self._asked(slot, at_s))

    def save(self) -> SiteState:
        """A copy of the state, for the state file."""
        rooms = ((self._ramps, _RAMPS), (self._devices, _DEVICES), (self._physics, _PHYSICS))
        arrays = {name: getattr(room, name).copy() for room, names in rooms for name in names}
        arrays |= {"cut": self._cut.copy(), **self.faults.save()}
        return SiteState(self.digest, self.at_s, self.energy_wh, arrays)

    def restore(self, state: SiteState) -> None:
        """Take a saved state over."""
        self.at_s, self.energy_wh = state.at_s, state.energy_wh
        for room, names in ((self._ramps, _RAMPS), (self._devices, _DEVICES), (self._physics, _PHYSICS)):
            for name in names:
                setattr(room, name, state.arrays[name])
        self._cut = state.arrays["cut"]
        self.faults.restore(state.arrays, state.at_s)
        self._heat.step(self.ambient_c(self.at_s), self.at_s)
        self._ramps.take_over(state.at_s)

    def _happen(self, due_s: float) -> None:
        """What befalls devices at the instant that the site has come to."""
        if self.faults.next_s <= due_s:
            for kind, index in self.faults.happen(due_s).items():
                self._befall(kind, index)
        if self._heat.next_s <= due_s:
            self._refit(self._heat.step(self.ambient_c(due_s), due_s))

    def _integrate(self, at_s: float) -> None:
        if at_s <= self.at_s:
            return
        self.energy_wh += self._ramps.joules(self.at_s, at_s) * self.pue_at(self.at_s) / 3600.0
        self.at_s = self.faults.at_s = at_s
        self._ramps.settle(at_s)

    def _befall(self, kind: str, index: IntArray) -> None:
        """A fault has begun or ended at some devices."""
        if kind == f.POWER_LOST:
            restarted = self._relight(index)
        else:
            moved = self._devices.after(kind, index, self.at_s)
            restarted = {state: from_slots(whom) for state, whom in moved.items() if len(whom)}
        if kind == f.COOLING_LOST:
            self._heat.watch(self.at_s)
        self._refit(index)
        for state, changed in restarted.items():
            self.on_restart(state, changed)

    def _relight(self, index: IntArray) -> dict[int, BitMap]:
        """Who of some devices has power now; those that get it back boot. Whose state has changed by that."""
        was = self._devices.is_dark[index]
        now = self._cut[index] | self.faults.any_of((f.POWER_LOST,), index)
        self._devices.is_dark[index] = now
        restarted = self._devices.boot(index[was & ~now], self.at_s)
        self._refit(index[was != now])
        return {state: from_slots(whom) for state, whom in restarted.items() if len(whom)}

    def _refit(self, index: IntArray) -> None:
        """Send devices to where their state and condition want them, if they aren't on their way there."""
        if not len(index):
            return
        power_w, hashrate = self._devices.targets(index, self._heat.allowed_w(index))
        moves = (power_w != self._ramps.to_w[index]) | (hashrate != self._physics.full_th_per_s[index])
        index, power_w, hashrate = index[moves], power_w[moves], hashrate[moves]
        if not len(index):
            return
        self._physics.turn(index, hashrate, self._heat.inlet_c(index), self.at_s)
        ramp_s = self._ramp_s(index, power_w)
        delay_s = np.maximum(self._devices.boots_until_s[index] - self.at_s, 0.0)
        self._ramps.retarget(index, power_w, ramp_s, self.at_s, delay_s)

    def _ramp_s(self, index: IntArray, to_w: PowerArray) -> PowerArray:
        """How long the way takes: a state's own time, 5 s for what stops by itself, none for what loses its power."""
        state = self._devices.acting[index]
        is_rising = to_w > self._ramps.power_of(index, self.at_s)
        down_s = self._tables.ramp_down_s[state, index]
        is_nominal = to_w == self._tables.power_w[state, index]
        down_s = np.where(is_nominal, down_s, np.minimum(down_s, FAULT_RAMP_S))
        ramp_s = np.where(is_rising, self._tables.ramp_up_s[state, index], down_s)
        return np.where(self._devices.is_dark[index], 0.0, ramp_s).astype(np.float32)

    def _asked(self, slot: int, at_s: float) -> Asked:
        self.advance(at_s)
        if not 0 <= slot < self.devices:
            message = f"site {self.config.site}: there is no slot {slot}; it has {self.devices}"
            raise KeyError(message)
        inlet_c = float(self._heat.inlet_c(np.array([slot]), self.ambient_c(self.at_s))[0])
        return Asked(
            slot,
            int(self._devices.commanded[slot]),
            inlet_c,
            self.faults.at(slot, self.at_s),
            self.at_s,
            float(self._devices.limit_w[slot]),
            self.faults.xid(slot, self.at_s),
        )


def _pass(_state: int, _changed: BitMap) -> None:
    """Nobody keeps a log."""
