"""The feeders' meters beside the miners: IT power by feeder, from the site's breakers over Modbus (docs/modbus.md)."""

from hcp_pipelines.devices.modbus.device import PowerPlant


class FeederMeters:
    """Reads every feeder's power; the breakers' units are looked up once."""

    def __init__(self, target: str, pue: float) -> None:
        host, _, port = target.rpartition(":")
        self._plant, self._pue = PowerPlant(host, int(port)), pue
        self._units: dict[str, int] = {}

    async def read(self) -> dict[str, float]:
        """IT watts by feeder: what the meter reads, without the cooling.

        Raises:
            DeviceUnreachableError, DeviceRefusedError, DeviceReplyError: as the plant.
        """
        if not self._units:
            self._units = await self._plant.find_breakers()
        return {name: (await self._plant.read_breaker(unit)).power_w / self._pue for name, unit in self._units.items()}

    async def close(self) -> None:
        """Close the connection."""
        await self._plant.close()
