"""`hcp maintenance plan|list|end`: devices asleep in time, left alone for a while, and given back."""

from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.acting import Asked, Watch, acting, as_option, follow, ordering
from hcp_pipelines.cli.common import (
    duration,
    instant,
    number_of,
    print_json,
    print_table,
    settings_of,
    state_dir_option,
)
from hcp_pipelines.cli.locks import locking
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.inventory import load_inventories, load_inventory
from hcp_pipelines.operators import maintenance as windows
from hcp_pipelines.operators.orders import Placed
from hcp_pipelines.operators.progress import are_locked, newest_row
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

NAME = "maintenance/"


@click.group("maintenance")
def maintenance() -> None:
    """Devices that are asleep in time, left alone for a while, and given back. Times are simulated."""


@maintenance.command("plan")
@click.argument("facility")
@locking
@click.option("--group", "group_id", help="All devices of a group.")
@click.option(
    "--from", "begins_at", callback=instant, metavar="T", help="Begins then (UTC).  [default: as soon as ramps let]"
)
@click.option("--until", "ends_at", callback=instant, metavar="T", help="Ends then (UTC).")
@click.option("--for", "lasts", callback=duration, metavar="2h", help="Lasts so long (90s, 30m, 2h, 1d).")
@ordering
def plan(
    asked: Asked,
    facility: str,
    begins_at: datetime | None,
    ends_at: datetime | None,
    lasts: timedelta | None,
    **more: Any,
) -> None:
    """Plan maintenance of devices of FACILITY: asleep when it begins, left alone until it ends. It is no lock-out.

    With --wait it returns when they are asleep and their gateway holds them.
    """
    slots, group_id, feeder, site = (more[name] for name in ("devices", "group_id", "feeder", "site"))
    if (bool(slots), group_id is not None, feeder is not None, site).count(True) != 1:
        raise ConfigError("maintenance of what? One of --device SLOTS, --group ID, --feeder ID, --site")
    end = lasts if lasts is not None else ends_at
    if end is None or (lasts is not None and ends_at is not None):
        raise ConfigError("until when? --for 2h or --until T")
    with asked.acting() as act:
        inventory, after = load_inventory(act.connection, facility), newest_row(act.connection, facility)
        part = windows.part_of(inventory, devices=slots, group_id=group_id, feeder_id=feeder)
        share = inventory.capacity_mw / sum(i.capacity_mw for i in load_inventories(act.connection))
        times = windows.times_of(facility, act.now(), windows.lead_of(inventory, part, share), begins_at, end)
        planned = windows.plan(act.connection, act.operator, facility, part, times, asked.reason)
        if not asked.as_json:
            _tell(planned, sum(part.devices.values()))
        done: dict[str, Any] = {}
        if asked.wait:
            reached = are_locked(inventory, part.slots, part.feeder_id or "")
            watch = Watch(Placed(planned.name, facility), reached, after)
            done = follow(act, [watch], asked.timeout, as_json=asked.as_json)
    if asked.as_json:
        print_json(asdict(planned) | {"done": done})
    elif done:
        click.echo(f"{planned.name}: under way, asleep and held by its gateway")


def _tell(planned: windows.Planned, devices: int) -> None:
    empties, begins, ends = (
        f"{at:%Y-%m-%d %H:%M:%S}Z" for at in (planned.empties_at, planned.begins_at, planned.ends_at)
    )
    click.echo(
        f"{planned.facility_id}: {planned.name}: {devices} devices go to sleep from {empties}, are left alone from {begins} "
        f"to {ends}"
    )
    if planned.obligations:
        sold = ", ".join(map(str, planned.obligations))
        click.echo(f"they shed nothing meanwhile for what is sold to the grid: {sold} (`hcp grid list`)")


@maintenance.command("list")
@click.option("--all", "with_ended", is_flag=True, help="Those that are over as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_(context: click.Context, with_ended: bool, as_json: bool, own_state_dir: Path | None) -> None:
    """List windows by when they begin. One is under way where its gateway says that it holds the devices."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        found = windows.list_windows(settings, connection, with_ended=with_ended)
    if as_json:
        print_json({"windows": [asdict(one) for one in found]})
    elif not found:
        click.echo("No maintenance is planned.")
    else:
        rows = [
            (
                w.name,
                w.facility_id,
                w.of,
                w.state,
                *(f"{at:%Y-%m-%d %H:%M}" for at in (w.empties_at, w.begins_at, w.ends_at)),
                w.planned_by,
                w.reason,
                w.ended_by or "",
            )
            for w in found
        ]
        columns = ("window", "facility", "of", "", "empties", "begins", "ends", "planned by", "why", "ended by")
        print_table("", columns, rows)


@maintenance.command("end")
@click.argument("window")
@as_option
@state_dir_option
@click.pass_context
def end(context: click.Context, window: str, operator: str | None, own_state_dir: Path | None) -> None:
    """End WINDOW (`7` or `maintenance/7`) now, or call it off: who planned it does, or an admin. Devices are given back."""
    number = number_of(window, window.removeprefix(NAME), "window like 7 or maintenance/7", "hcp maintenance list")
    with acting(context, own_state_dir, operator) as act:
        facility_id = windows.end(act.connection, act.operator, number)
    click.echo(f"{facility_id}: {NAME}{number} ended")


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(maintenance)
