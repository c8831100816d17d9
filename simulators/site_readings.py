"""One facility as it stands: its devices' rooms, what all draw, the revenue meter, and a reading of any device.

Whoever reads moves the site to the instant first (`advance`, in `site`, which also has the commands and what befalls devices).
"""

from collections.abc import Callable

import numpy as np
from pyroaring import BitMap

from simulators import faults as f
from simulators.calls import Calls
from simulators.devices import Devices
from simulators.fault_state import Faults
from simulators.heat import Heat
from simulators.physics import Asked, Physics
from simulators.power_plant.plant import Plant
from simulators.ramps import PowerArray, Ramps
from simulators.readings import GpuReading, MinerReading
from simulators.roaring import from_slots
from simulators.settings import SiteConfig
from simulators.site_records import Surroundings, digest_of, group_key
from simulators.site_saving import Rooms
from simulators.streams import BoolArray, FloatArray, IntArray, uniforms
from simulators.tables import ByteArray, Tables
from simulators.weather import Weather


class ReadableSite:
    """The state of a facility and what can be read of it."""

    def __init__(self, config: SiteConfig, seed: int, at_s: float, around: Surroundings | None = None) -> None:
        around = around or Surroundings(Weather(seed))
        self.config, self._seed = config, seed
        self.devices = config.slots
        self.digest = digest_of(config, seed)
        self.keys = {group.group: group_key(config.site, seed, group) for group in config.groups}
        self.at_s = at_s
        self.energy_wh = 0.0
        self.plant: Plant | None = None
        self.calls = Calls()
        self.on_restart: Callable[[int, BitMap], None] = _pass
        self.on_boot: list[Callable[[BitMap, float], None]] = []
        self.on_work_lost: list[Callable[[BitMap, int, float], None]] = []
        self.faults = Faults(config.slots, around.schedule, at_s)
        self._weather = around.weather
        self._tables = Tables(config, seed)
        self._everyone = np.arange(self.devices, dtype=np.int64)
        self._devices = Devices(self._tables, self.faults, at_s)
        self._cut: BoolArray = np.zeros(self.devices, dtype=np.bool_)  # by the plant's breakers
        self._devices.is_dark |= self.faults.mask(f.POWER_LOST, at_s)
        self._heat = Heat(self._tables, self.faults, self.ambient_c(at_s), at_s)
        power_w, hashrate = self._devices.targets(self._everyone, self._heat.allowed_w(self._everyone))
        self._ramps = Ramps(power_w, at_s)
        self._physics = Physics(config.site, self._tables, self._ramps, self._heat.inlet_c(self._everyone), at_s)
        self._physics.full_th_per_s[:] = hashrate
        self._rooms = Rooms(self._ramps, self._devices, self._physics)
        self.faults.before = self.advance
        self.faults.take_struck()  # nobody works yet

    def advance(self, at_s: float) -> None:
        """Move to an instant."""
        raise NotImplementedError

    @property
    def commanded(self) -> ByteArray:
        """The state code each device says it is in."""
        return self._devices.commanded

    @property
    def reachable(self) -> ByteArray:
        """1 where a device answers; 0 for slots that no group owns, without power, booting, or deaf."""
        return self._tables.known_slots & self._devices.answers(self._everyone, self.at_s)

    def power_w(self, at_s: float) -> PowerArray:
        """IT power of every slot, watts."""
        self.advance(at_s)
        return self._ramps.power_w(self.at_s)

    def hashrate_th_per_s(self, at_s: float) -> FloatArray:
        """What every slot really hashes, TH/s."""
        self.advance(at_s)
        return self._physics.hashrate_th_per_s(self._everyone, self.at_s)

    def told_hashrate_th_per_s(self, at_s: float) -> FloatArray:
        """What every miner says that it hashes, TH/s; NaN of GPUs, and of who can't be spoken to."""
        told = self.hashrate_th_per_s(at_s) * np.where(
            self.faults.mask(f.LYING, at_s), self.claimed(self._everyone), 1.0
        )
        told[self._tables.is_gpu | (self.reachable == 0)] = np.nan
        return told

    def told_temperature_c(self, at_s: float) -> FloatArray:
        """How hot every device says that its chips are, °C; NaN of who can't be spoken to."""
        self.advance(at_s)
        inlet_c = self._heat.inlet_c(self._everyone, self.ambient_c(self.at_s))
        told = self._physics.temperature_c(self._everyone, inlet_c, self.at_s)
        told[self.reachable == 0] = np.nan
        return told

    def claimed(self, index: IntArray) -> FloatArray:
        """Times the hashes done that some miners claim while they lie."""
        return 1.08 + 0.17 * uniforms(self._seed, index, "lies", self.config.site)

    def is_up(self, slot: int, at_s: float) -> bool:
        """Whether a device has power at its socket and has booted, whatever it draws."""
        self.advance(at_s)
        return not self._devices.is_dark[slot] and bool(self._devices.boots_until_s[slot] <= self.at_s)

    def booted_s(self, slot: int) -> float:
        """When a device last had booted after a loss of power, else the world's beginning; not after restarts of its own."""
        return float(self._devices.boots_until_s[slot])

    def has_no_pool(self, slot: int, at_s: float) -> bool:
        """Whether a miner has woken without a pool, and was given none since."""
        self.advance(at_s)
        return bool(self._devices.has_no_pool[slot])

    def gpus(self) -> BitMap:
        """The slots of GPUs."""
        return from_slots(np.flatnonzero(self._tables.is_gpu))

    def is_sound(self, index: IntArray) -> BoolArray:
        """Which of some devices can be spoken to, and run what they were told to, if anything."""
        return self._devices.answers(index, self.at_s) & ~self._devices.has_no_work[index]

    def is_moving(self, index: IntArray) -> BoolArray:
        """Which of some devices are on their way to another power."""
        return self._ramps.start_s[index] + self._ramps.ramp_s[index] > self.at_s

    def has_no_work(self, slot: int) -> bool:
        """Whether the application on a GPU has died, and nothing was begun since."""
        return bool(self._devices.has_no_work[slot])

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
            self.faults.rows(slot, self.at_s),
        )


def _pass(_state: int, _changed: BitMap) -> None:
    """Nobody keeps a log."""
