"""`hcp repair list|open|close|times`: devices that somebody has to look at, and what became of them."""

from dataclasses import asdict
from pathlib import Path

import click

from hcp_pipelines.cli.acting import acting, as_option, line_of_text
from hcp_pipelines.cli.common import number_of, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.operators import repairs
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

NAME = "repair/"


@click.group("repair")
def repair() -> None:
    """Devices that somebody has to look at, and what became of them. Times are simulated."""


@repair.command("list")
@click.option("--facility", help="Of this one alone.")
@click.option("--all", "with_closed", is_flag=True, help="Closed ones as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_(
    context: click.Context, facility: str | None, with_closed: bool, as_json: bool, own_state_dir: Path | None
) -> None:
    """List open cases, newest first."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = repairs.list_cases(connection, facility, with_closed=with_closed)
    if as_json:
        print_json({"cases": [asdict(case) for case in found]})
    elif not found:
        click.echo("No case is open.")
    else:
        rows = [
            (
                f"{NAME}{case.number}",
                case.facility_id,
                case.slot,
                case.group_id,
                case.model,
                case.reason,
                case.opened_by,
                f"{case.opened_at:%Y-%m-%d %H:%M}",
                case.outcome or "open",
                case.part,
            )
            for case in found
        ]
        print_table("", ("case", "facility", "slot", "group", "model", "why", "by", "since", "", "part"), rows)


@repair.command("open")
@click.argument("facility")
@click.option(
    "--device", "devices", multiple=True, required=True, metavar="SLOTS", help="Slots: 7, 10-19 or 3,5,8-9; repeatable."
)
@click.option("--reason", required=True, callback=line_of_text, help="What is wrong with them.")
@as_option
@state_dir_option
@click.pass_context
def open_(
    context: click.Context,
    facility: str,
    devices: tuple[str, ...],
    reason: str,
    operator: str | None,
    own_state_dir: Path | None,
) -> None:
    """Open a case each for devices of FACILITY; quarantine opens its own."""
    with acting(context, own_state_dir, operator) as act:
        inventory = load_inventory(act.connection, facility)
        opened = repairs.open_cases(act.connection, act.operator, inventory, devices, reason, act.now())
    names = ", ".join(f"{NAME}{number}" for number in opened)
    click.echo(f"{facility}: {names or 'they have open cases already'}")


@repair.command("close")
@click.argument("case")
@click.option("--outcome", type=click.Choice(repairs.OUTCOMES), required=True, help="What became of the device.")
@click.option("--part", default="", help="The spare that it took: hash board, fan, power supply.")
@click.option("--reason", required=True, callback=line_of_text, help="What was wrong, and what was done.")
@as_option
@state_dir_option
@click.pass_context
def close(
    context: click.Context,
    case: str,
    outcome: str,
    part: str,
    reason: str,
    operator: str | None,
    own_state_dir: Path | None,
) -> None:
    """Close CASE (`7` or `repair/7`): unless it is retired, the device is taken out of quarantine."""
    number = number_of(case, case.removeprefix(NAME), "case like 7 or repair/7", "hcp repair list")
    with acting(context, own_state_dir, operator) as act:
        facility_id, slot = repairs.close_case(
            act.connection, act.operator, number, outcome, part.strip(), reason, act.now()
        )
    after = "it stays in quarantine" if outcome == repairs.RETIRED else "no longer in quarantine"
    click.echo(f"{facility_id}: {NAME}{number} of slot {slot}: {outcome}; {after}")


@repair.command("times")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def times(context: click.Context, as_json: bool, own_state_dir: Path | None) -> None:
    """Show how long repairs took, and how many spares, by group."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = repairs.repair_times(connection)
    if as_json:
        print_json({"groups": [asdict(one) for one in found]})
        return
    rows = [
        (
            one.facility_id,
            one.group_id,
            one.model,
            one.open,
            one.closed,
            one.nothing_found,
            "" if one.mean_time_to_repair_s is None else f"{one.mean_time_to_repair_s / 3600:.1f}",
            one.parts,
        )
        for one in found
    ]
    columns = ("facility", "group", "model", "open", "closed", "nothing found", "mean hours to repair", "spares")
    print_table("", columns, rows)


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(repair)
