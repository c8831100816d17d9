"""What a facility's meters and breakers say, read again and again: the revenue meter, load and power by feeder.

Simulated sites tell their meter on the bulk channel; a real one has it on Modbus (docs/modbus.md), where the file names a plant.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import structlog

from hcp_pipelines.devices.bulk.codec import Metered
from hcp_pipelines.devices.site import DeviceSite
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import HcpError

READ_EACH_S = 0.5
WH_PER_MWH = 1e6
FRESH_FOR_S = 5.0  # real: what was read longer ago is not what is


@dataclass(frozen=True)
class PlantReading:
    """All-in kW and the energy register at the revenue meter, by its own clock; by feeder the kW at its breaker.

    `open_feeders` have no power.
    """

    meter_kw: float
    energy_mwh: float
    metered_at_s: float  # simulated Unix seconds
    feeder_kw: Mapping[str, float] = field(default_factory=dict)
    open_feeders: frozenset[str] = frozenset()


@runtime_checkable
class HasMeter(Protocol):
    """A site that tells its revenue meter."""

    async def meter(self) -> Metered:
        """The meter."""


class Plant:
    """The newest reading; `watch` until cancelled."""

    def __init__(self, target: str | None, site: Callable[[], DeviceSite | None], clock: SystemClock) -> None:
        self._target, self._site, self._clock = target, site, clock
        self._read_at_s = -math.inf
        self.asked_at_s = 0.0  # simulated Unix seconds, by the gateway's clock: the newest reading is no older
        self._newest: PlantReading | None = None
        self._problem = ""
        self.listeners: list[Callable[[PlantReading], None]] = []
        self._log = structlog.get_logger("edge")

    @property
    def newest(self) -> PlantReading | None:
        """The newest reading; None where there is none that is fresh."""
        is_fresh = self._clock.monotonic_s() - self._read_at_s <= FRESH_FOR_S
        return self._newest if is_fresh else None

    async def watch(self) -> None:
        """Read on and on; what can't be read is said once, and read again."""
        read = self._read_channel if self._target is None else self._modbus(self._target)
        while True:
            asked_at_s = self._clock.now().timestamp()
            try:
                found = await read()
                if found is not None:
                    self.asked_at_s = asked_at_s
                    self._newest, self._read_at_s, self._problem = found, self._clock.monotonic_s(), ""
                    for listener in self.listeners:
                        listener(found)
            except HcpError as error:
                if not self._problem:
                    self._log.warning("the plant's meters can't be read", error=str(error))
                self._problem = str(error)
            await asyncio.sleep(READ_EACH_S)

    async def _read_channel(self) -> PlantReading | None:
        site = self._site()
        if not isinstance(site, HasMeter):
            return None
        meter = await site.meter()
        return PlantReading(meter.power_w / 1000, meter.energy_wh / WH_PER_MWH, meter.simulated_at_s)

    def _modbus(self, target: str) -> "Callable[[], asyncio.Future[PlantReading]]":
        from hcp_pipelines.edge.modbus_plant import ModbusPlant

        plant = ModbusPlant(target)
        return lambda: asyncio.ensure_future(plant.read())
