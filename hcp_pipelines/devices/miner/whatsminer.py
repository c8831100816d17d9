"""A WhatsMiner of API 2 or older: power_off and power_on, a power limit or a power mode; token and envelope are pyasic's."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from hcp_pipelines.devices.miner import whatsminer_codec as codec
from hcp_pipelines.devices.miner.api import call, whatsminer
from hcp_pipelines.devices.miner.device import restorable
from hcp_pipelines.devices.miner.evidence import is_there, state_of
from hcp_pipelines.devices.miner.quirks import takes_power_limit
from hcp_pipelines.devices.miner.telemetry import Level, MinerOptions, Profile, Telemetry
from hcp_pipelines.domain.errors import DeviceRefusedError
from hcp_pipelines.domain.modes import DeviceState


class WhatsminerMiner:
    """A `device.MinerDevice`."""

    def __init__(self, address: str, firmware: str, options: MinerOptions, api_version: str) -> None:
        self.firmware = firmware
        self._options = options
        self._has_limit = takes_power_limit(api_version)
        self._api = whatsminer(address, options, api_version)

    async def read(self) -> Telemetry:
        """`summary`; API 1 refuses it while it is off, which `status` must confirm."""
        try:
            return codec.decode_summary(await self._call(self._api.summary(), "summary"))
        except DeviceRefusedError:
            if not await self._is_off():
                raise
            return Telemetry(0.0, is_asleep=True)

    async def read_back(self) -> Telemetry:
        """`summary` and `status`."""
        return replace(await self.read(), is_asleep=await self._is_off())

    def profile(self, before: Telemetry, levels: Sequence[Level]) -> Profile | None:
        """The power limit."""
        state = state_of(before, levels)
        return None if before.is_asleep or state is None else Profile(self.firmware, state, limit_w=before.profile_w)

    async def sleep(self) -> None:
        """`power_off`, answered before it is carried out."""
        await self._write(lambda: self._api.power_off(respbefore=True), "power_off")

    async def wake(self, level: Level, remembered: Profile | None, before: Telemetry) -> None:
        """Set limit or mode where it is another one or has no effect, then `power_on` if it is off."""
        known = restorable(remembered, level, self.firmware)
        limit_w = math.ceil(known.limit_w if known and known.limit_w else level.power_w)
        is_limit_right = before.profile_w is not None and abs(before.profile_w - limit_w) <= 1
        if not self._has_limit:
            await self._set_mode(level)
        elif not is_limit_right or not (before.is_asleep or is_there(before, level, (level,))):
            await self._write(lambda: self._api.adjust_power_limit(limit_w), f"adjust_power_limit {limit_w}")
        if before.is_asleep:
            await self._write(self._api.power_on, "power_on")

    async def _set_mode(self, level: Level) -> None:
        is_low = level.state is DeviceState.MINING_ECO
        act = self._api.set_low_power if is_low else self._api.set_normal_power
        await self._write(act, "set_low_power" if is_low else "set_normal_power")

    async def _is_off(self) -> bool:
        return codec.decode_status(await self._call(self._api.send_command("status"), "status"))

    async def _write(self, act: Callable[[], Awaitable[Any]], what: str) -> None:
        """A command under a token; a worn one is exchanged once."""
        try:
            await self._call(act(), what)
        except DeviceRefusedError as error:
            if "token" not in str(error):
                raise
            self._api.token = None
            await self._call(act(), what)

    async def _call(self, work: Awaitable[Any], what: str) -> dict[str, Any]:
        return await call(work, self._api, what, 2 * self._options.deadline_s)  # a token, then the command
