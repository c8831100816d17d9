"""`hcp grid award|list|deploy|recall|withdraw|base-point|events`: obligations, and what the grid says (docs/obligations.md)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.acting import Acting, acting, as_option, line_of_text
from hcp_pipelines.cli.common import Finite, instant, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import HcpError
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories, load_inventory
from hcp_pipelines.operators import grid as books
from hcp_pipelines.operators import grid_word
from hcp_pipelines.operators.availability import CountedOn, counted_on
from hcp_pipelines.operators.grid import Award, Listed
from hcp_pipelines.operators.grid_answers import Answered, list_events
from hcp_pipelines.operators.progress import read_gateway
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

Command = Callable[..., Any]
PENALTY_USD_PER_MWH = 15_000.0  # ours, stated as such: programmes state their own


@dataclass(frozen=True)
class Said:
    """The reason that was given, and how to tell what was done."""

    reason: str
    as_json: bool

    def tell(self, text: str, **facts: object) -> None:
        """What was done."""
        if self.as_json:
            print_json(facts)
        else:
            click.echo(text)


def saying(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command those options as one `Said`, and who acts."""

    @functools.wraps(command)
    @click.pass_context
    def run(
        context: click.Context,
        /,
        operator: str | None,
        reason: str,
        as_json: bool,
        own_state_dir: Path | None,
        **options: Any,
    ) -> None:
        with acting(context, own_state_dir, operator) as act:
            command(act, Said(reason, as_json), **options)

    for option in (
        state_dir_option,
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        as_option,
        click.option("--reason", default="", callback=line_of_text, help="Kept in the audit log."),
    ):
        run = option(run)
    return run


def promising(command: Command) -> Command:
    """What is taken on: the fields of `Award`."""
    any_, positive = Finite(min=0), Finite(min=0, min_open=True)
    for name, own_name, kind, more in (
        ("--tranche", "tranche", click.STRING, {"default": "all", "help": "Which part of the load.  [default: all]"}),
        ("--penalty", "penalty_usd_per_mwh", any_, {"default": PENALTY_USD_PER_MWH, "help": "$/MWh.  [default: 15000]"}),
        ("--recovery", "recovery_s", any_, {"required": True, "help": "Seconds until it can be called again."}),
        ("--duration", "duration_s", positive, {"required": True, "help": "Seconds that an event lasts at most."}),
        ("--notice", "notice_s", any_, {"required": True, "help": "Seconds from the call to the deadline."}),
        ("--to", "ends_at", None, {"required": True, "callback": instant, "metavar": "T", "help": "Until then, UTC."}),
        ("--from", "starts_at", None, {"required": True, "callback": instant, "metavar": "T", "help": "From then, UTC."}),
        ("--mw", "mw", positive, {"required": True, "help": "At the revenue meter."}),
        ("--programme", "programme", None, {"required": True, "metavar": "NAME", "help": "ECRS, NSPIN, RRS, ERS, DR, …"}),
    ):  # fmt: skip
        command = click.option(name, own_name, type=kind, **more)(command)
    return command


@click.group("grid")
def grid() -> None:
    """Grid obligations: promise load, deploy, recall (docs/obligations.md)."""


@grid.command("award")
@click.argument("facility")
@promising
@saying
def award(act: Acting, said: Said, facility: str, **promised: Any) -> None:
    """Take on an obligation of FACILITY: so many MW of its load can go when the grid asks. Refused if it can't be met."""
    inventory, asked = load_inventory(act.connection, facility), Award(**promised)
    there_is = _counted_on(act, inventory)
    number = books.award(act.connection, act.operator, inventory, asked, there_is, act.now(), said.reason)
    said.tell(f"{facility}: obligation/{number} awarded: {asked.programme} {asked.mw:g} MW", obligation_id=number)


@grid.command("deploy")
@click.argument("obligation", type=int)
@saying
def deploy(act: Acting, said: Said, obligation: int) -> None:
    """Pass on that the grid deploys OBLIGATION: its MW go down within the notice, whatever else wants them on."""
    facility = grid_word.deploy(act.connection, act.operator, obligation, act.now(), said.reason)
    said.tell(f"{facility}: obligation/{obligation} deployed", obligation_id=obligation)


@grid.command("recall")
@click.argument("obligation", type=int)
@saying
def recall(act: Acting, said: Said, obligation: int) -> None:
    """Pass on that the grid recalls OBLIGATION: its load comes back under the ramps."""
    facility = grid_word.recall(act.connection, act.operator, obligation, act.now(), said.reason)
    said.tell(f"{facility}: obligation/{obligation} recalled", obligation_id=obligation)


@grid.command("withdraw")
@click.argument("obligation", type=int)
@saying
def withdraw(act: Acting, said: Said, obligation: int) -> None:
    """Give the award OBLIGATION back, as long as it is not armed."""
    facility = books.withdraw(act.connection, act.operator, obligation, said.reason)
    said.tell(f"{facility}: obligation/{obligation} withdrawn", obligation_id=obligation)


@grid.command("base-point")
@click.argument("facility")
@click.argument("mw", type=Finite(min=0))
@saying
def base_point(act: Acting, said: Said, facility: str, mw: float) -> None:
    """Pass on what the market tells FACILITY to draw, MW at the meter at most; good for 15 minutes."""
    inventory = load_inventory(act.connection, facility)
    grid_word.base_point(act.connection, act.operator, inventory, mw, act.now(), said.reason)
    said.tell(f"{facility}: base point {mw:g} MW", facility_id=facility, mw=mw)


@grid.command("list")
@click.argument("facility", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="The newest so many.  [default: 50]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_(context: click.Context, facility: str | None, limit: int, as_json: bool, own_state_dir: Path | None) -> None:
    """Show the obligations (of FACILITY): status, baseline, what was delivered, why. Times are simulated."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = books.list_obligations(connection, facility, limit)
    if as_json:
        print_json({"obligations": [one.as_dict() for one in found]})
    elif found:
        columns = (
            "id",
            "facility",
            "programme",
            "status",
            "MW",
            "$/MWh if missed",
            "from (UTC)",
            "to",
            "baseline MW",
            "delivered",
            "reason",
        )
        print_table("", columns, [_row(one) for one in found])
    else:
        click.echo("No obligations.")


@grid.command("events")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="The newest so many.  [default: 50]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def events(context: click.Context, limit: int, as_json: bool, own_state_dir: Path | None) -> None:
    """Show what demand response servers asked, and how it was answered (docs/openadr.md). Times are simulated."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = list_events(connection, limit)
    if as_json:
        print_json({"events": [one.as_dict() for one in found]})
    elif found:
        columns = ("event", "change", "programme", "means", "from (UTC)", "to", "answer", "obligations", "reason")
        print_table("", columns, [_event_row(one) for one in found])
    else:
        click.echo("No events.")


def _event_row(one: Answered) -> tuple[object, ...]:
    return (
        one.event_id, one.modification, one.programme, one.means, f"{one.starts_at:%m-%d %H:%M}",
        f"{one.ends_at:%m-%d %H:%M}" if one.ends_at else None, "in" if one.is_in else "out",
        ", ".join(map(str, one.obligations)), one.reason,
    )  # fmt: skip


def _row(one: Listed) -> tuple[object, ...]:
    return (
        one.obligation_id, one.facility_id, one.programme, one.status, f"{one.mw:g}", f"{one.penalty_usd_per_mwh:g}",
        f"{one.starts_at:%m-%d %H:%M}",
        f"{one.ends_at:%m-%d %H:%M}", None if one.baseline_mw is None else f"{one.baseline_mw:.3f}",
        None if one.delivered_fraction is None else f"{one.delivered_fraction:.1%}", one.reason,
    )  # fmt: skip


def _counted_on(act: Acting, inventory: FacilityInventory) -> CountedOn:
    """What load there is; a gateway that does not answer leaves what the books say."""
    try:
        state = read_gateway(act.settings, act.connection, inventory.facility_id)
    except HcpError as error:
        click.echo(f"{error}: its devices are taken for well and on", err=True)
        state = None
    portfolio_mw = sum(each.capacity_mw for each in load_inventories(act.connection))
    return counted_on(act.connection, inventory, state, act.now(), inventory.capacity_mw / portfolio_mw)


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(grid)
