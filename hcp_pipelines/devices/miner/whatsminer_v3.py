"""A WhatsMiner of API 3: the service is stopped and started, power has a limit. Signed by a token of the device's salt."""

import math
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Any

from hcp_pipelines.devices.miner import whatsminer_codec as codec
from hcp_pipelines.devices.miner.api import call, whatsminer_v3
from hcp_pipelines.devices.miner.device import restorable
from hcp_pipelines.devices.miner.evidence import is_there, state_of
from hcp_pipelines.devices.miner.fields import shown
from hcp_pipelines.devices.miner.telemetry import Level, MinerOptions, Profile, Telemetry
from hcp_pipelines.domain.errors import DeviceRefusedError


class WhatsminerV3Miner:
    """A `device.MinerDevice`."""

    def __init__(self, address: str, firmware: str, options: MinerOptions) -> None:
        self.firmware = firmware
        self._options = options
        self._api = whatsminer_v3(address, options)

    async def read(self) -> Telemetry:
        """`get.miner.status`, param `summary`."""
        return codec.decode_v3_summary(await self._call(self._api.get_miner_status_summary(), "summary"))

    async def read_back(self) -> Telemetry:
        """The same with `get.device.info`."""
        telemetry = await self.read()
        is_working = codec.decode_v3_working(await self._call(self._api.get_device_info(), "device info"))
        return replace(telemetry, is_asleep=not is_working)

    def profile(self, before: Telemetry, levels: Sequence[Level]) -> Profile | None:
        """The power limit."""
        state = state_of(before, levels)
        return None if before.is_asleep or state is None else Profile(self.firmware, state, limit_w=before.profile_w)

    async def sleep(self) -> None:
        """`set.miner.service` stop."""
        await self._write(self._api.set_miner_service("stop"), "service stop")

    async def wake(self, level: Level, remembered: Profile | None, before: Telemetry) -> None:
        """`set.miner.power_limit` where it is another one or has no effect, then `set.miner.service` start."""
        known = restorable(remembered, level, self.firmware)
        limit_w = math.ceil(known.limit_w if known and known.limit_w else level.power_w)
        is_limit_right = before.profile_w is not None and abs(before.profile_w - limit_w) <= 1
        if not is_limit_right or not (before.is_asleep or is_there(before, level, (level,))):
            await self._write(self._api.set_miner_power_limit(limit_w), f"power_limit {limit_w}")
        if before.is_asleep:
            await self._write(self._api.set_miner_service("start"), "service start")

    async def _write(self, work: Awaitable[Any], what: str) -> None:
        reply = await self._call(work, what)
        if reply.get("code") != 0:
            self._api.salt = None  # a factory reset makes another one
            raise DeviceRefusedError(f"{self._api.ip} {what}: {shown(reply)}")

    async def _call(self, work: Awaitable[Any], what: str) -> dict[str, Any]:
        return await call(work, self._api, what, 2 * self._options.deadline_s)  # the salt, then the command
