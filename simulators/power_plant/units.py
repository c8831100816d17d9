"""The Modbus units of one site: what each register and coil says at an instant, and what a write does. No sockets here.

Unit 1 is the revenue meter, as are 0 and 255, by which clients mean the address alone; 2 is the under-frequency relay, 10 and on
are the breakers, 100 the cooling plant where there is one.
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10, sqrt
from typing import Final

import numpy as np

from simulators.faults import POWER_LOST
from simulators.power_plant.breaker import BreakerState
from simulators.power_plant.pdu import Code, ModbusError, Unit
from simulators.power_plant.plant import Plant
from simulators.power_plant.registers import (
    BREAKER,
    COOLING,
    MAP_VERSION,
    MAPS,
    METER,
    RELAY,
    SUNSPEC_ADDRESS,
    VENDOR,
    Register,
    Value,
    block,
    sunspec,
)
from simulators.power_plant.topology import Point, Runs
from simulators.site import Site

METER_UNIT: Final = 1
RELAY_UNIT: Final = 2
COOLING_UNIT: Final = 100
ITSELF_UNITS: Final = (0, 255)  # on TCP: whoever has the address (MODBUS Messaging on TCP/IP V1.0b, 4.4.2.2)
SITE_V, FEEDER_V = 34_500.0, 13_800.0  # line to line, nominal (settings)
POWER_FACTOR = 0.97  # of switched-mode supplies with power factor correction (setting)
_SAG = 0.02  # voltage lost at full load (setting)
METER_PERIOD_S = 1.0  # the meter's registers are renewed once a simulated second

COMMAND_CLOSE, COMMAND_OPEN, COMMAND_RESET = 1, 2, 3

Blocks = Sequence[tuple[int, Sequence[int]]]


def units_of(site: Site, plant: Plant) -> dict[int, Unit]:
    """Every unit of a site by its number."""
    meter = MeterUnit(site, plant)
    units: dict[int, Unit] = {METER_UNIT: meter, RELAY_UNIT: RelayUnit(site, plant)}
    units |= dict.fromkeys(ITSELF_UNITS, meter)
    for point in plant.topology.breakers:
        if point.unit is not None:
            units[point.unit] = BreakerUnit(site, plant, point)
    if plant.cooling:
        units[COOLING_UNIT] = CoolingUnit(site, plant)
    return units


class _Unit:
    """A map, and coils that a subclass may have."""

    registers: tuple[Register, ...]
    kind: int

    def __init__(self, site: Site, plant: Plant, name: str) -> None:
        self._site, self._plant = site, plant
        self._head: dict[str, Value] = {"kind": self.kind, "map_version": MAP_VERSION, "name": name}
        self._is_little = site.config.plant.modbus_word_order == "little"
        self._is_empty = np.ones(site.config.slots, dtype=np.bool_)
        for group in site.config.groups:
            self._is_empty[group.first_slot : group.end_slot] = False

    def blocks(self, at_s: float) -> Blocks:
        """The one run of registers."""
        self._site.advance(at_s)
        return [(0, block(self.registers, self._head | self.values(), is_little=self._is_little))]

    def values(self) -> dict[str, Value]:
        """Each value of the map, at the site's instant."""
        raise NotImplementedError

    def identification(self) -> Mapping[int, str]:
        """Vendor, product code and revision; product and model name."""
        name = next(name for name, registers in MAPS.items() if registers is self.registers)
        return {0: VENDOR, 1: name, 2: str(MAP_VERSION), 4: str(self._head["name"]), 5: f"HCP {name}"}

    def _has_supply(self, runs: Runs) -> bool:
        """Whether the supply before some slots is alive: not where a fault has taken the power of all of them."""
        lost = self._site.faults.mask(POWER_LOST, self._site.at_s)
        return not runs or not all((lost | self._is_empty)[first:end].all() for first, end in runs)

    def coils(self, at_s: float) -> Sequence[bool]:  # noqa: ARG002
        """None."""
        return ()

    def write_coil(self, address: int, is_on: bool, at_s: float) -> None:  # noqa: ARG002
        """Refused."""
        raise ModbusError(Code.ILLEGAL_ADDRESS)

    def write_register(self, address: int, value: int, at_s: float) -> None:  # noqa: ARG002
        """Refused."""
        raise ModbusError(Code.ILLEGAL_ADDRESS)


class MeterUnit(_Unit):
    """The revenue meter, all in; also as a SunSpec meter from 40000 on."""

    registers, kind = METER, 1

    def __init__(self, site: Site, plant: Plant) -> None:
        super().__init__(site, plant, site.config.site)
        design_w = max(plant.design_w * site.config.pue, 1.0)
        self._scale = max(0, ceil(log10(design_w / 32_000.0)))
        self._renewed_s = float("-inf")
        self._values: dict[str, Value] = {}

    def blocks(self, at_s: float) -> Blocks:
        """The map, and the SunSpec models."""
        own = super().blocks(at_s)
        return [*own, (SUNSPEC_ADDRESS, sunspec(self._head | self.values(), self._scale))]

    def values(self) -> dict[str, Value]:
        """What the meter measured last."""
        at_s = self._site.at_s
        if floor(at_s / METER_PERIOD_S) != self._renewed_s:
            self._renewed_s = floor(at_s / METER_PERIOD_S)
            self._values = self._measured(at_s)
        return self._values

    def _measured(self, at_s: float) -> dict[str, Value]:
        power_w = self._site.site_power_w(at_s)
        live = float(self._has_supply(((0, self._site.devices),)))
        voltage = live * SITE_V * (1.0 - _SAG * min(power_w / max(self._plant.design_w, 1.0), 1.0))
        return {
            "power": power_w,
            "power_int": power_w,
            "energy": int(self._site.energy_wh),
            "voltage": voltage,
            "current": power_w / (sqrt(3.0) * SITE_V * POWER_FACTOR),
            "frequency": self._plant.frequency.hz(at_s),
            "power_factor": POWER_FACTOR,
            "simulated_at": int(at_s),
        }


class RelayUnit(_Unit):
    """The under-frequency relay; coil 0 is the recall."""

    registers, kind = RELAY, 2

    def __init__(self, site: Site, plant: Plant) -> None:
        super().__init__(site, plant, "under-frequency relay")

    def values(self) -> dict[str, Value]:
        """As of the site's instant."""
        plant = self._plant
        shed = [breaker for breaker in plant.breakers.values() if breaker.state == BreakerState.SHED_BY_RELAY]
        return {
            "frequency": plant.frequency.hz(self._site.at_s),
            "trip_frequency": plant.relay.trip_hz,
            "delay": plant.relay.delay_s,
            "state": int(plant.is_shed),
            "trips": plant.relay_trips % 65_536,
            "breakers_shed": len(shed),
            "last_trip_at": int(plant.relay_tripped_at_s),
        }

    def coils(self, at_s: float) -> Sequence[bool]:  # noqa: ARG002
        """Recall: always reads off."""
        return (False,)

    def write_coil(self, address: int, is_on: bool, at_s: float) -> None:
        """On: recall. Refused while the frequency is below the set-point."""
        if address != 0:
            raise ModbusError(Code.ILLEGAL_ADDRESS)
        if is_on and not self._plant.recall(at_s):
            raise ModbusError(Code.DEVICE_FAILURE)


class BreakerUnit(_Unit):
    """The breaker of a feeder or a node: coil 0 switches it, coil 1 resets a trip, register 40 does both."""

    registers, kind = BREAKER, 3

    def __init__(self, site: Site, plant: Plant, point: Point) -> None:
        super().__init__(site, plant, point.name)
        self._point = point
        self._last_command = 0
        self._above = [other.name for other in plant.topology.breakers if other is not point and _covers(other, point)]

    def values(self) -> dict[str, Value]:
        """As of the site's instant."""
        breaker = self._plant.breakers[self._point.name]
        power_w = self._plant.power_through_w(self._point, self._site.power_w(self._site.at_s))
        load = power_w / breaker.limit_w
        is_live = all(self._plant.breakers[name].is_closed for name in self._above) and self._has_supply(
            self._point.runs
        )
        upstream = FEEDER_V * (1.0 - _SAG * min(load, 1.0)) if is_live else 0.0
        return {
            "power": power_w,
            "current": power_w / (sqrt(3.0) * FEEDER_V * POWER_FACTOR),
            "voltage_upstream": upstream,
            "voltage_downstream": upstream if breaker.is_closed else 0.0,
            "state": int(breaker.state),
            "trips": breaker.trips % 65_536,
            "limit": breaker.limit_w,
            "load": load,
            "heat": breaker.heat,
            "command": self._last_command,
        }

    def coils(self, at_s: float) -> Sequence[bool]:
        """Closed or not, and the reset, which always reads off."""
        self._site.advance(at_s)
        return (self._plant.breakers[self._point.name].is_closed, False)

    def write_coil(self, address: int, is_on: bool, at_s: float) -> None:
        """Close, open or reset."""
        if address not in (0, 1):
            raise ModbusError(Code.ILLEGAL_ADDRESS)
        if address == 0:
            self._carry_out(COMMAND_CLOSE if is_on else COMMAND_OPEN, at_s)
        elif is_on:
            self._carry_out(COMMAND_RESET, at_s)

    def write_register(self, address: int, value: int, at_s: float) -> None:
        """The command register."""
        if address != BREAKER[-1].address:
            raise ModbusError(Code.ILLEGAL_ADDRESS)
        if value not in (COMMAND_CLOSE, COMMAND_OPEN, COMMAND_RESET):
            raise ModbusError(Code.ILLEGAL_VALUE)
        self._carry_out(value, at_s)

    def _carry_out(self, command: int, at_s: float) -> None:
        name = self._point.name
        if command == COMMAND_RESET:
            is_done = self._plant.reset(name, at_s)
        else:
            is_done = self._plant.command(name, command == COMMAND_CLOSE, at_s)
        if not is_done:
            raise ModbusError(Code.DEVICE_FAILURE)
        self._last_command = command


class CoolingUnit(_Unit):
    """The cooling plant; coil 0 resets its interlock."""

    registers, kind = COOLING, 4

    def __init__(self, site: Site, plant: Plant) -> None:
        super().__init__(site, plant, "cooling plant")

    def values(self) -> dict[str, Value]:
        """As of the plant's last step."""
        cooling = self._plant.cooling
        if cooling is None:
            raise ModbusError(Code.NO_SUCH_UNIT)
        running = [pump for pump in range(cooling.config.pumps) if pump not in cooling.failed_pumps]
        return {
            "outdoor_temperature": cooling.outdoor_celsius,
            "supply_temperature": cooling.supply_celsius,
            "pue": cooling.pue,
            "pumps": cooling.config.pumps,
            "pumps_running": sum(1 << pump for pump in running),
            "fan_stage": cooling.fan_stage,
            "alarms": int(cooling.alarms),
            "load": cooling.load_fraction,
        }

    def coils(self, at_s: float) -> Sequence[bool]:  # noqa: ARG002
        """Reset: always reads off."""
        return (False,)

    def write_coil(self, address: int, is_on: bool, at_s: float) -> None:
        """On: reset. Refused while the supply is too warm."""
        if address != 0:
            raise ModbusError(Code.ILLEGAL_ADDRESS)
        if is_on and not self._plant.reset_cooling(at_s):
            raise ModbusError(Code.DEVICE_FAILURE)


def _covers(outer: Point, inner: Point) -> bool:
    """Whether everything behind `inner` is behind `outer` too, and more."""
    inside = all(any(a <= first and end <= b for a, b in outer.runs) for first, end in inner.runs)
    return bool(inner.runs) and inside and outer.runs != inner.runs
