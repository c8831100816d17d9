"""From what a device says it is to the driver that speaks its dialect."""

import httpx

from hcp_pipelines.devices.miner.antminer import AntminerMiner
from hcp_pipelines.devices.miner.device import MinerDevice
from hcp_pipelines.devices.miner.identify import ask_dialect
from hcp_pipelines.devices.miner.luxos import LuxosMiner
from hcp_pipelines.devices.miner.telemetry import Dialect, MinerOptions
from hcp_pipelines.devices.miner.whatsminer import WhatsminerMiner
from hcp_pipelines.devices.miner.whatsminer_v3 import WhatsminerV3Miner
from hcp_pipelines.domain.errors import DeviceRefusedError


async def make_device(address: str, options: MinerOptions, client: httpx.AsyncClient) -> MinerDevice:
    """The device at an address.

    Raises:
        DeviceUnreachableError, DeviceReplyError: as `identify`.
        DeviceRefusedError: it speaks a dialect that has no driver.
    """
    found = await ask_dialect(address, options)
    match found.dialect:
        case Dialect.LUXOS:
            return LuxosMiner(address, found.firmware, options)
        case Dialect.WHATSMINER_V2:
            return WhatsminerMiner(address, found.firmware, options, found.api_version)
        case Dialect.WHATSMINER_V3:
            return WhatsminerV3Miner(address, found.firmware, options)
        case Dialect.ANTMINER:
            return AntminerMiner(address, found.firmware, options, client)
        case _:
            raise DeviceRefusedError(f"{address}: {found.dialect} ({found.firmware}) is not driven: docs/devices.md")
