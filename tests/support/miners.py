"""The miners' servers in this loop on free ports, and pyasic, whose ports are constants, sent to them.

pyasic connects to 4028, 4433 and 80; the map here rewrites these (asyncio.open_connection for the first two, pyasic's own
setting of a transport for HTTP). Time stands still unless a test moves it.
"""

import asyncio
import contextlib
import json
import warnings
from pathlib import Path

import httpx
import pytest
from pydantic.warnings import PydanticDeprecatedSince20
from pyroaring import BitMap

from simulators.addresses import address_of
from simulators.clock import ManualClock
from simulators.durability import TransitionLog
from simulators.fleet import Fleet
from simulators.miners.server import MinersServer
from simulators.settings import WorldConfig

with warnings.catch_warnings():  # pyasic's own, at import
    warnings.filterwarnings("ignore", category=PydanticDeprecatedSince20)
    warnings.filterwarnings("ignore", message="'crypt' is deprecated", category=DeprecationWarning)
    import pyasic
    import pyasic.settings
    from pyasic.config import MiningModeConfig
    from pyasic.errors import APIError
    from pyasic.miners.factory import miner_factory

__all__ = ["PYASIC_WARNINGS", "APIError", "Hall", "MiningModeConfig", "group", "pyasic", "talk", "within"]

# What pyasic and the libraries below it do wrong while it runs: writers it forgets, an old call of passlib.
PYASIC_WARNINGS = [
    pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <StreamWriter:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:passing settings to md5_crypt:DeprecationWarning"),
]
START_S = 1_735_689_600.0
OFF, ECO, FULL = 0, 2, 3
S21 = {OFF: (25.0, 0.0), ECO: (2800.0, 170.0), FULL: (3500.0, 200.0)}
M60S = {OFF: (25.0, 0.0), ECO: (2750.0, 155.0), FULL: (3441.0, 186.0)}
CALL_S = 60


def group(firmware, first_slot, devices=4, model=None, states=None):
    model = model or ("M60S" if firmware.startswith("whatsminer") else "S21")
    states = states or (M60S if model == "M60S" else S21)
    return {
        "group": f"g{first_slot}", "kind": "ASIC", "model": model, "firmware": firmware, "first_slot": first_slot,
        "devices": devices,
        "states": [
            {"state": state, "power_w": power, "hash_rate_th_per_s": rate, "ramp_up_s": 30, "ramp_down_s": 10}
            for state, (power, rate) in states.items()
        ],
    }  # fmt: skip


class Hall:
    """Miners of one site, one group a firmware, sixteen slots apart."""

    def __init__(self, folder: Path, *firmwares, speed=1.0, groups=None, is_mapped=True, **protocols) -> None:
        self._is_mapped = is_mapped
        self.clock = ManualClock(START_S, speed)
        paths = dict.fromkeys(
            ("anchor", "bulk_socket", "ready_file", "transition_log", "exogenous_log"), folder / "unused"
        )
        groups = groups or [group(name, 16 * number) for number, name in enumerate(firmwares)]
        site = {"site": "one", "settlement_point": "HB_NORTH", "groups": groups}
        ports = {"enabled": True, "port_4028": 0, "http_port": 0, "v3_port": 0} | protocols
        document = {"version": 1, **paths, "sites": [site], "protocols": {"miners": ports}}
        self.config = WorldConfig.model_validate(document)
        self.fleet = Fleet(self.config.sites, self.config.seed, START_S)
        self.site = self.fleet.sites["one"]
        self.log_path = folder / "transitions.jsonl"
        self.transitions = TransitionLog(self.log_path, self.fleet, self.clock)
        self.server = MinersServer(self.config, self.fleet, self.transitions, self.clock)

    async def __aenter__(self):
        await self.server.start()
        ports = {number: self.port(number) for number in (4028, 80, 4433)} if self._is_mapped else {}
        self._mapped = _port_map(ports)
        self._mapped.__enter__()
        return self

    async def __aexit__(self, *_):
        self._mapped.__exit__(None, None, None)
        await self.server.stop()
        await self.transitions.close()

    def port(self, number):
        return self.server.ports[{4028: "4028", 80: "http", 4433: "v3"}[number]]

    def pass_s(self, seconds):
        self.clock.at_s += seconds

    def truth(self, slot):
        return self.site.miner(slot, self.clock.at_s)

    def set(self, slot, state):
        """Put a device into a state as the gateway would, and let it settle."""
        self.transitions.set_state(self.site, bytes(16), 0, state, BitMap([slot]))
        self.pass_s(600)

    def break_(self, slot, *kinds):
        """Give a device faults."""
        for kind in kinds:
            self.site.impose(kind, BitMap([slot]), self.clock.at_s)

    def mend(self, slot, *kinds):
        self.site.lift(kinds, BitMap([slot]), self.clock.at_s)

    async def miner(self, slot):
        """What pyasic makes of the device."""
        return await within(miner_factory.get_miner(address_of(0, slot)))

    def log(self):
        return [json.loads(line) for line in self.log_path.read_text().splitlines()]


async def within(call, seconds=CALL_S):
    """pyasic has no deadlines where it hurts."""
    return await asyncio.wait_for(call, seconds)


@contextlib.contextmanager
def _port_map(ports):
    connect, transport = asyncio.open_connection, pyasic.settings.transport

    async def open_connection(host=None, port=None, **rest):
        return await connect(host, ports.get(port, port), **rest)

    class Mapped(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            port = request.url.port or {"http": 80, "https": 443}[request.url.scheme]
            request.url = request.url.copy_with(port=ports.get(port, port))
            return await super().handle_async_request(request)

    asyncio.open_connection = open_connection
    pyasic.settings.transport = lambda verify=False: Mapped(verify=verify)
    try:
        yield
    finally:
        asyncio.open_connection, pyasic.settings.transport = connect, transport


async def talk(address, port, *parts, close=False, pause_s=0.0, seconds=60):
    """A bare client: send the parts, read to the end."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), seconds)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
