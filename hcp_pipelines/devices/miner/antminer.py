"""A stock Antminer: figures on port 4028, control by writing its configuration back over the web, whole and judged.

pyasic's own stop and resume are not used: they write back whatever they read, and read again to do so.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

import httpx

from hcp_pipelines.devices.miner import antminer_codec as codec
from hcp_pipelines.devices.miner.api import AntminerWeb, antminer, call, password
from hcp_pipelines.devices.miner.fields import Json
from hcp_pipelines.devices.miner.telemetry import Dialect, Level, MinerOptions, Profile, Telemetry
from hcp_pipelines.devices.miner.web import AntminerPages
from hcp_pipelines.domain.errors import DeviceUnreachableError
from hcp_pipelines.domain.modes import DeviceState


class AntminerMiner:
    """A `device.MinerDevice`."""

    def __init__(self, address: str, firmware: str, options: MinerOptions, client: httpx.AsyncClient) -> None:
        self.firmware = firmware
        self._options = options
        self._api = antminer(address, options)
        pages = AntminerPages(client, address, options.web_port, password(options, Dialect.ANTMINER))
        self._web = AntminerWeb(pages, address)
        self._configuration: Json | None = None  # as just read back, and judged

    async def read(self) -> Telemetry:
        """`stats` in the newer shape where there is one."""
        return codec.decode_stats(await self._call(self._api.stats(new_api=True), self._api, "stats"))

    async def read_back(self) -> Telemetry:
        """The same with the mode of the configuration."""
        telemetry = await self.read()
        self._configuration = await self._read_configuration()
        state = codec.decode_state(self._configuration)
        return replace(telemetry, is_asleep=state is DeviceState.CURTAILED, state_told=state)

    def profile(self, before: Telemetry, levels: Sequence[Level]) -> Profile | None:  # noqa: ARG002 - it names its mode
        """The whole configuration, pools included; without any there is nothing worth remembering instead of what is."""
        if before.is_asleep or before.state_told is None or self._configuration is None:
            return None
        if not codec.has_pool(self._configuration):
            return None
        return Profile(self.firmware, before.state_told, configuration=self._configuration)

    async def sleep(self) -> None:
        """Mode 1."""
        await self._write(DeviceState.CURTAILED, {})

    async def wake(self, level: Level, remembered: Profile | None, before: Telemetry) -> None:  # noqa: ARG002
        """Mode 0 or 3; pools that were lost meanwhile come from the remembered configuration."""
        known = remembered.configuration if remembered and remembered.firmware == self.firmware else {}
        await self._write(level.state, known)

    async def _read_configuration(self) -> Json:
        return codec.decode_configuration(await self._call(self._web.get_miner_conf(), self._web, "get_miner_conf"))

    async def _write(self, state: DeviceState, remembered: Json) -> None:
        """Post the configuration just read with another mode. No answer in time is not a no: what counts is read back."""
        read, self._configuration = self._configuration or await self._read_configuration(), None
        posted = codec.encode_configuration(read, state, remembered)
        try:
            reply = await call(
                self._web.set_miner_conf(posted), self._web, "set_miner_conf", self._options.command_deadline_s
            )
        except DeviceUnreachableError:
            if codec.decode_state(await self._read_configuration()) is not state:
                raise
        else:
            codec.check_written(reply)

    async def _call(self, work: Awaitable[Any], api: Any, what: str) -> dict[str, Any]:
        return await call(work, api, what, self._options.deadline_s)
