"""A plant's revenue meter and breakers over Modbus, as `plant.py` wants them. Imported where a file names a plant."""

from hcp_pipelines.devices.modbus.codec import BreakerState
from hcp_pipelines.devices.modbus.device import PowerPlant
from hcp_pipelines.edge.plant import WH_PER_MWH, PlantReading


class ModbusPlant:
    """The breakers' units are looked up once; a breaker has the name of its feeder."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._plant = PowerPlant(host, int(port))
        self._units: dict[str, int] = {}

    async def read(self) -> PlantReading:
        """Meter and breakers now.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: as the plant.
        """
        if not self._units:
            self._units = await self._plant.find_breakers()
        meter = await self._plant.read_meter()
        breakers = {name: await self._plant.read_breaker(unit) for name, unit in self._units.items()}
        return PlantReading(
            meter.power_w / 1000,
            meter.energy_wh / WH_PER_MWH,
            float(meter.metered_at_s),
            {name: breaker.power_w / 1000 for name, breaker in breakers.items()},
            frozenset(name for name, breaker in breakers.items() if breaker.state is not BreakerState.CLOSED),
        )
