"""`hcp observed`: what the policies would have earned, by day, where the control mode keeps them from acting."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.common import duration, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import world_clock

COLUMNS = ("day", "facility", "mode", "hours", "as it was $", "on paper $", "gain $", "wakes $", "devices changed")
_BY_DAY = """
    select (simulated_at at time zone 'utc')::date as day, facility_id, string_agg(distinct control_mode, ', ') as control_mode,
           sum(hours) as hours, sum(usd_actual) as usd_actual, sum(usd_paper) as usd_paper,
           sum(usd_paper - usd_actual) as gain_usd, sum(wake_usd) as wake_usd, sum(devices)::bigint as devices
    from paper_plans where simulated_at >= %s and (%s::text is null or facility_id = %s)
    group by 1, 2 order by 1 desc, 2"""
DEFAULT = timedelta(days=14)


@click.command("observed")
@click.argument("facility", required=False)
@click.option("--last", callback=duration, help="How far back, like 12h or 30d; simulated.  [default: 14d]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def observed(
    context: click.Context, facility: str | None, last: timedelta | None, as_json: bool, own_state_dir: Path | None
) -> None:
    """Show what the policies would have earned at FACILITY (all, if none is named) in `observe` and `approve`, by day.

    On paper every wake is paid; ramps, minimum times and orders are not on it. Dollars are at decision prices, not settled.
    """
    settings = settings_of(context, own_state_dir)
    since = world_clock(settings).now() - (last or DEFAULT)
    with connect(settings, Role.OPERATOR) as connection:
        if facility:
            load_inventory(connection, facility)  # refuses one that there is not
        cursor = connection.execute(_BY_DAY, (since, facility, facility))
        names = [column.name for column in cursor.description or ()]
        days = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    if as_json:
        print_json({"days": days})
    elif not days:
        where = f" of {facility}" if facility else ""
        click.echo(
            f"Nothing on paper{where} since {since:%Y-%m-%d %H:%M}Z: facilities in control_mode auto act, and have no paper; "
            "others begin with the first tick under a policy (`hcp policy show`)."
        )
    else:
        print_table("What the policies would have earned", COLUMNS, [_row(day) for day in days])


def _row(day: dict[str, Any]) -> tuple[str, ...]:
    money = (f"{day[name]:,.2f}" for name in ("usd_actual", "usd_paper", "gain_usd", "wake_usd"))
    return (
        str(day["day"]),
        day["facility_id"],
        day["control_mode"],
        f"{day['hours']:.1f}",
        *money,
        f"{day['devices']:,}",
    )


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(observed)
