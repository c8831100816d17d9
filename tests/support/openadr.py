"""A world's demand response server on a free port, and stock VENs (openleadr's client, unchanged) that register with it."""

import contextlib
import time
from datetime import timedelta

from openleadr import OpenADRClient

from simulators.clock import AnchorClock
from simulators.fleet import Fleet
from simulators.openadr.server import OpenAdrServer
from simulators.scenarios import Scenario
from simulators.script import Script
from simulators.settings import WorldConfig

SIMULATED_S = 1_740_830_400.0  # 2025-03-01T12:00Z
SPEED = 60.0


def site(name, devices=100):
    group = {
        "group": "a", "kind": "ASIC", "model": "S21", "first_slot": 0, "devices": devices,
        "states": [{"state": 0, "power_w": 25}, {"state": 3, "power_w": 3500}],
    }  # fmt: skip
    return {"site": name, "settlement_point": "HB_NORTH", "pue": 1.1, "groups": [group]}


def script_of(*calls, hours_ago=0.0, services=None):
    scenario = Scenario(name="called", description="what the grid asks for", grid=calls, services=services or {})
    return Script(scenario, SIMULATED_S - hours_ago * 3600.0)


@contextlib.asynccontextmanager
async def vtn(folder, *calls, speed=SPEED, within_s=10.0, sites=("one", "two"), services=None, **openadr):
    """The server, with the script's hours counted from the world's noon of now."""
    clock = AnchorClock(time.time(), SIMULATED_S, speed)
    config = WorldConfig.model_validate(
        {
            "version": 1, "anchor": folder / "a", "bulk_socket": folder / "b", "ready_file": folder / "r",
            "transition_log": folder / "t", "exogenous_log": folder / "e", "sites": [site(name) for name in sites],
            "protocols": {"openadr": {"enabled": True, "port": 0, "poll_s": 1, "report_s": 1} | openadr},
        }
    )  # fmt: skip
    fleet = Fleet(config.sites, 7, clock.now_s(), script_of(*calls, services=services))
    server = OpenAdrServer(config, fleet, None, clock, within_s)
    server.clock = clock
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def stock_ven(server, on_event=lambda event: "optIn", on_update=None, power_w=None, name="stock"):
    """openleadr's client; `events` and `updates` are what its handlers were called with."""
    client = OpenADRClient(ven_name=name, vtn_url=server.urls["openadr"])
    client.events, client.updates = [], []

    async def event_came(event):
        client.events.append(event)
        return on_event(event)

    async def update_came(event):
        client.updates.append(event)
        return (on_update or on_event)(event)

    client.add_handler("on_event", event_came)
    client.add_handler("on_update_event", update_came)
    if power_w is not None:
        second = timedelta(seconds=1)
        client.add_report(
            power_w, resource_id="one", measurement="RealPower", sampling_rate=second, report_duration=second, unit="W"
        )
    try:
        await client.run()
        yield client
    finally:
        await client.stop()
