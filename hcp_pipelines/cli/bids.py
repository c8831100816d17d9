"""`hcp policy bids`: what the policy in force would buy at each price, as a market takes it (docs/obligations.md)."""

import asyncio
from pathlib import Path

import click

from hcp_pipelines.allocator.devices import Devices
from hcp_pipelines.allocator.preview import Situation
from hcp_pipelines.allocator.preview_load import load_situation
from hcp_pipelines.allocator.site import site_of
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.operators.progress import read_gateway
from hcp_pipelines.policy.bids import BidPoint, bid_curve
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, reading
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import world_clock


@click.command("bids")
@click.argument("facility")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def bids(context: click.Context, facility: str, as_json: bool, own_state_dir: Path | None) -> None:
    """Show the policy in force of FACILITY as a bid curve: MW at the meter by price, at the present states and indices."""
    situation = _situation(settings_of(context, own_state_dir), facility)
    curve = curve_of(situation)
    policy_id = situation.in_force.policy_id if situation.in_force else 0
    if as_json:
        points = [{"usd_per_mwh": p.usd_per_mwh, "mw": round(p.mw, 6)} for p in curve]
        print_json({"facility_id": facility, "policy_id": policy_id, "at": situation.now.isoformat(), "bids": points})
        return
    title = f"{facility} · policy {policy_id} · {situation.now:%Y-%m-%d %H:%M}Z, simulated"
    print_table(title, ("up to $/MWh", "MW wanted"), [(f"{p.usd_per_mwh:.2f}", f"{p.mw:.3f}") for p in curve])


def curve_of(situation: Situation) -> list[BidPoint]:
    """The bid curve of a facility as it is.

    Raises:
        HcpError: no policy is in force.
    """
    site, in_force = situation.site, situation.in_force
    if in_force is None:
        raise HcpError(f"{site.facility_id}: no policy is in force yet; `hcp policy show` tells of the newest")
    devices = Devices(site, slack_s=0.0)
    devices.adopt(situation.commanded, situation.observed, situation.now.timestamp())
    present = site.shape.counts(devices.states, devices.eligible(0.0))
    return bid_curve(in_force.compiled, present, situation.book.indices, situation.now)


def _situation(settings: Settings, facility_id: str) -> Situation:
    with connect(settings, Role.OPERATOR) as connection:
        inventory = load_inventory(connection, facility_id)
        state = read_gateway(settings, connection, facility_id)
    site, now = site_of(inventory, inventory.capacity_mw, ""), world_clock(settings).now()

    async def load() -> Situation:
        async with reading(settings, Role.OPERATOR) as connection:
            return await load_situation(connection, site, state, now)

    return asyncio.run(load())
