"""What is at a facility now, for commands that look ahead from there: its inventory, its gateway's word, prices, what stands."""

import asyncio

from hcp_pipelines.allocator.preview import Situation
from hcp_pipelines.allocator.preview_load import load_situation
from hcp_pipelines.allocator.site import site_of
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories, load_inventory
from hcp_pipelines.operators.progress import read_gateway
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, reading
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import world_clock


def situation_of(settings: Settings, facility_id: str) -> tuple[FacilityInventory, Situation]:
    """The situation of a facility.

    Raises:
        HcpError: Postgres or the gateway can't be asked, or there is no such facility.
    """
    with connect(settings, Role.OPERATOR) as connection:
        inventory = load_inventory(connection, facility_id)
        portfolio_mw = sum(i.capacity_mw for i in load_inventories(connection))
        state = read_gateway(settings, connection, facility_id)
    site = site_of(inventory, portfolio_mw, "")

    async def load() -> Situation:
        async with reading(settings, Role.OPERATOR) as connection:
            return await load_situation(connection, site, state, world_clock(settings).now())

    return inventory, asyncio.run(load())
