"""A LuxOS miner: curtail sleep and wakeup, profiles by name, one session at a time."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from typing import Any

from hcp_pipelines.devices.miner import luxos_codec as codec
from hcp_pipelines.devices.miner.api import call, luxos
from hcp_pipelines.devices.miner.device import restorable
from hcp_pipelines.devices.miner.evidence import is_there, state_of
from hcp_pipelines.devices.miner.fields import row
from hcp_pipelines.devices.miner.telemetry import Level, MinerOptions, Profile, Telemetry
from hcp_pipelines.domain.errors import DeviceRefusedError, DeviceReplyError, DeviceUnreachableError, HcpError


class LuxosMiner:
    """A `device.MinerDevice`."""

    def __init__(self, address: str, firmware: str, options: MinerOptions) -> None:
        self.firmware = firmware
        self._options = options
        self._api = luxos(address, options)
        self._profiles: list[codec.LuxosProfile] = []
        self._profile_name = ""  # the configured one, as last read

    async def read(self) -> Telemetry:
        """Power, hashrate, mode and profile in one connection."""
        reply = await self._call(self._api.send_command(codec.POLL), "poll")
        self._profile_name = codec.decode_profile_name(reply)
        if self._profile_name not in [one.name for one in self._profiles]:
            self._profiles = codec.decode_profiles(await self._call(self._api.profiles(), "profiles"))
        watts = next((one.power_w for one in self._profiles if one.name == self._profile_name), None)
        return replace(codec.decode_poll(reply), profile_w=watts)

    async def read_back(self) -> Telemetry:
        """The same."""
        return await self.read()

    def profile(self, before: Telemetry, levels: Sequence[Level]) -> Profile | None:
        """The configured profile's name."""
        state = state_of(before, levels)
        return None if before.is_asleep or state is None else Profile(self.firmware, state, name=self._profile_name)

    async def sleep(self) -> None:
        """`curtail sleep`."""
        async with self._session():
            await self._call(self._api.sleep(), "curtail sleep")

    async def wake(self, level: Level, remembered: Profile | None, before: Telemetry) -> None:
        """Set the profile, then `curtail wakeup` if it sleeps."""
        known = restorable(remembered, level, self.firmware)
        name = known.name if known else self._profile_of(level)
        async with self._session():
            if self._profile_name != name or not (before.is_asleep or is_there(before, level, (level,))):
                await self._set_profile(name)
            if before.is_asleep:
                await self._call(self._api.wakeup(), "curtail wakeup")

    def _profile_of(self, level: Level) -> str:
        chosen = codec.choose_profile(self._profiles, level.power_w)
        if chosen is None:
            has = ", ".join(f"{one.name} ({one.power_w:.0f} W)" for one in self._profiles)
            raise DeviceRefusedError(f"{self._api.ip}: no profile within {level.power_w:.0f} W; it has {has}")
        return chosen.name

    async def _set_profile(self, name: str) -> None:
        """Thermal management would move it again: it is off meanwhile, and on again whatever happens."""
        is_managed = codec.decode_is_atm_on(await self._call(self._api.atm(), "atm"))
        if is_managed:
            await self._call(self._api.atmset(enabled=False), "atmset off")
        try:
            reply = await self._call(self._api.profileset(name), f"profileset {name}")
        finally:
            if is_managed:
                await self._call(self._api.atmset(enabled=True), "atmset on")
        told = row(reply, "PROFILE").get("Profile")
        if told != name:
            raise DeviceReplyError(f"{self._api.ip}: asked for profile {name}, told {told!r}")

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[None]:
        """A session of our own; somebody else's is waited for, not taken over."""
        try:
            opened = await self._call(self._api.logon(), "logon")
        except DeviceRefusedError as error:
            raise DeviceUnreachableError(f"{error}: somebody else's session holds") from None
        self._api.session_token = codec.decode_session(opened)
        try:
            yield
        finally:
            with contextlib.suppress(HcpError):  # it ends by itself after a while
                await self._call(self._api.logoff(), "logoff")
            self._api.session_token = None

    async def _call(self, work: Awaitable[Any], what: str) -> dict[str, Any]:
        return await call(work, self._api, what, self._options.deadline_s)
