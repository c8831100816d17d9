"""One facility's devices: commanded states, their power in simulated time, the revenue meter, and a reading of any device.

Vectorised and lazy: a device costs nothing while it is settled; energy is integrated exactly, not sampled. The arithmetic
of power is in `ramps`, of hashing in `work`, of heat in `thermal`, of readings in `physics`. Nothing here knows of sockets
or files.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pyroaring import BitMap

from simulators.faults import Faults
from simulators.physics import Physics
from simulators.power_caps import PowerCaps
from simulators.power_plant.plant import Plant
from simulators.ramps import PowerArray, Ramps
from simulators.readings import GpuReading, MinerReading
from simulators.roaring import from_slots, slots
from simulators.settings import SiteConfig
from simulators.streams import BoolArray, FloatArray, IntArray
from simulators.tables import CURTAILED, STATE_CODES, ByteArray, Tables
from simulators.weather import Weather

BOOT_S = {"ASIC": 60.0, "GPU": 300.0}  # settings; a miner's port is closed for 30 to 90 s of a reboot

__all__ = ["CURTAILED", "STATE_CODES", "Fleet", "SetResult", "Site", "SiteState"]


class SetResult(NamedTuple):
    """What a SET did."""

    accepted: BitMap
    refused: BitMap
    changed: BitMap


class SiteState(NamedTuple):
    """Everything of a site that outlives the process."""

    digest: str
    at_s: float
    energy_wh: float
    commanded: ByteArray
    power_from_w: PowerArray
    power_to_w: PowerArray
    ramp_from_s: FloatArray
    ramp_s: PowerArray


class Site:
    """One facility's devices and its revenue meter."""

    def __init__(self, config: SiteConfig, seed: int, at_s: float, weather: Weather | None = None) -> None:
        self.config = config
        self.devices = config.slots
        self.digest = _digest(config, seed)
        self.faults = Faults(config.slots)
        self.at_s = at_s
        self.energy_wh = 0.0
        self.plant: Plant | None = None
        self._dead: BoolArray = np.zeros(config.slots, dtype=np.bool_)
        self._boots_until_s = np.zeros(config.slots)
        self._tables = Tables(config, seed)
        self._caps = PowerCaps(self._tables)
        self._weather = weather or Weather(seed)
        self.commanded = self._tables.first_state.copy()
        self._ramps = Ramps(self._tables.power_w[self.commanded, np.arange(self.devices)], at_s)
        self._physics = Physics(config.site, self._tables, self._ramps, self.ambient_c(at_s), at_s)

    @property
    def reachable(self) -> ByteArray:
        """1 where a device answers; 0 for slots that no group owns, without power, or booting."""
        return self._tables.known_slots & self._is_up

    def set_state(self, state: int, wanted: BitMap, at_s: float) -> SetResult:
        """Command devices into a state; those already there, or on their way, accept and do nothing."""
        self.advance(at_s)
        able = self._tables.able[state] if state < STATE_CODES else BitMap()
        if not self._is_up.all():
            able = able & from_slots(np.flatnonzero(self._is_up))
        accepted = wanted & able
        index = slots(accepted)
        changed = index[self.commanded[index] != state]
        if len(changed):
            self.commanded[changed] = state
            self._retarget(changed, state)
        return SetResult(accepted, wanted - able, from_slots(changed))

    def advance(self, at_s: float) -> None:
        """Integrate the meter to an instant; going back does nothing."""
        while self.plant is not None and (due_s := self.plant.next_after(self.at_s)) <= at_s:
            self._integrate(due_s)
            self.plant.step()
        self._integrate(at_s)

    def set_without_power(self, dead: BoolArray) -> dict[int, BitMap]:
        """Which slots have no power from now on: they draw 0 W and don't answer.

        Those that get it back boot. A miner then goes to the state it was commanded into, which its configuration keeps; a GPU
        has lost its work and is in its lowest state. Returned: the GPUs whose state has changed so, by their state now.
        """
        lost, back = np.flatnonzero(dead & ~self._dead), np.flatnonzero(self._dead & ~dead)
        self._dead = dead.copy()
        if len(lost):
            self._physics.turn(lost, CURTAILED, self.ambient_c(self.at_s), self.at_s)
            self._ramps.cut(lost, self.at_s)
        return self._boot(back) if len(back) else {}

    def _integrate(self, at_s: float) -> None:
        if at_s <= self.at_s:
            return
        self.energy_wh += self._ramps.joules(self.at_s, at_s) * self.pue_at(self.at_s) / 3600.0
        self.at_s = at_s
        self._ramps.settle(at_s)

    def power_w(self, at_s: float) -> PowerArray:
        """IT power of every slot, watts."""
        self.advance(at_s)
        return self._ramps.power_w(self.at_s)

    def site_power_w(self, at_s: float) -> float:
        """All-in power at the revenue meter, watts."""
        self.advance(at_s)
        return self._ramps.total_w(self.at_s) * self.pue_at(self.at_s)

    def feeder_power_w(self, feeder_id: str, at_s: float) -> float:
        """All-in power of one feeder, watts; 0 where no group hangs on it."""
        self.advance(at_s)
        groups = [group for group in self.config.groups if group.feeder == feeder_id]
        index = [np.arange(group.first_slot, group.end_slot, dtype=np.int64) for group in groups]
        if not index:
            return 0.0
        power = self._ramps.power_of(np.concatenate(index), self.at_s)
        return float(power.sum(dtype=np.float64)) * self.pue_at(self.at_s)

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
        self.advance(at_s)
        faults = self.faults.at(slot, self.at_s)
        return self._physics.miner(slot, int(self.commanded[slot]), self.ambient_c(self.at_s), faults, self.at_s)

    def gpu(self, slot: int, at_s: float) -> GpuReading:
        """The truth about one GPU.

        Raises:
            KeyError: the slot holds none.
        """
        self.advance(at_s)
        faults = self.faults.at(slot, self.at_s)
        reading = self._physics.gpu(slot, int(self.commanded[slot]), self.ambient_c(self.at_s), faults, self.at_s)
        return self._caps.applied(dataclasses.replace(reading, last_xid=self.faults.xid(slot, self.at_s)))

    def cap_power(self, slot: int, board_w: float, at_s: float) -> None:
        """Limit the power of one GPU's board from now on.

        Raises:
            KeyError: the slot holds no GPU.
        """
        self._caps.put(slot, board_w)
        self.advance(at_s)
        if self._is_up[slot]:
            self._retarget(np.array([slot], dtype=np.int64), int(self.commanded[slot]))

    def save(self) -> SiteState:
        """A copy of the state, for the state file."""
        ramps = self._ramps
        return SiteState(
            self.digest,
            self.at_s,
            self.energy_wh,
            self.commanded.copy(),
            ramps.from_w.copy(),
            ramps.to_w.copy(),
            ramps.start_s.copy(),
            ramps.ramp_s.copy(),
        )

    def restore(self, state: SiteState) -> None:
        """Take a saved state over."""
        self.at_s, self.energy_wh, self.commanded = state.at_s, state.energy_wh, state.commanded
        ramps = self._ramps
        ramps.from_w, ramps.to_w = state.power_from_w, state.power_to_w
        ramps.start_s, ramps.ramp_s = state.ramp_from_s, state.ramp_s
        ramps.take_over(state.at_s)
        had_w = self._tables.power_w[self.commanded, np.arange(self.devices)]
        self._dead = (ramps.to_w == 0) & (had_w > 0)

    @property
    def _is_up(self) -> BoolArray:
        return ~self._dead & (self._boots_until_s <= self.at_s)

    def _boot(self, back: IntArray) -> dict[int, BitMap]:
        is_gpu = self._tables.is_gpu[back]
        boot_s = np.where(is_gpu, BOOT_S["GPU"], BOOT_S["ASIC"])
        self._boots_until_s[back] = self.at_s + boot_s
        states = np.where(is_gpu, self._tables.first_state[back], self.commanded[back])
        has_changed = states != self.commanded[back]
        self.commanded[back] = states
        for state in np.unique(states):
            for kind in (True, False):
                index = back[(states == state) & (is_gpu == kind)]
                if len(index):
                    self._retarget(index, int(state), BOOT_S["GPU" if kind else "ASIC"])
        return {int(s): from_slots(back[has_changed & (states == s)]) for s in np.unique(states[has_changed])}

    def _retarget(self, index: IntArray, state: int, delay_s: float = 0.0) -> None:
        """Send devices to the power of a state, as far as their caps let them; after a delay if they boot."""
        target_w = self._caps.target_w(state, index)
        self._physics.turn(index, state, self.ambient_c(self.at_s), self.at_s)
        up, down = self._tables.ramp_up_s[state, index], self._tables.ramp_down_s[state, index]
        is_rising = target_w > self._ramps.power_of(index, self.at_s)
        self._ramps.retarget(index, target_w, np.where(is_rising, up, down), self.at_s, delay_s)


class Fleet:
    """All sites of the world."""

    def __init__(self, configs: Sequence[SiteConfig], seed: int, at_s: float) -> None:
        weather = Weather(seed)
        self.sites = {config.site: Site(config, seed, at_s, weather) for config in configs}

    @property
    def devices(self) -> int:
        """Number of devices over all sites, gaps not counted."""
        return sum(int(site.reachable.sum()) for site in self.sites.values())


def _digest(config: SiteConfig, seed: int) -> str:
    """Identifies the device layout: a saved state is only taken over by the same one."""
    text = f"{seed}/{config.site}/" + "/".join(
        f"{group.group}:{group.kind}:{group.first_slot}:{group.devices}" for group in config.groups
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
