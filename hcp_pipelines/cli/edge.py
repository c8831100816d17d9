"""`hcp edge`: a gateway process, and the orders that reach gateways directly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from hcp_pipelines.cli.acting import as_option, line_of_text
from hcp_pipelines.cli.common import settings_of, state_dir_option
from hcp_pipelines.cli.direct import send_orders, tell

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("edge", invoke_without_command=True)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Run a gateway by this file (docs/edge-site-file.md).",
)
@state_dir_option
@click.pass_context
def edge(context: click.Context, config: Path | None, own_state_dir: Path | None) -> None:
    """Run a gateway, or order gateways directly: without Postgres and without an allocator."""
    if context.invoked_subcommand is not None:
        if config is not None:
            raise click.UsageError("--config runs a gateway; it goes with no other command")
        return
    if config is None:
        click.echo(context.get_help())
        return
    from hcp_pipelines.edge.__main__ import run

    context.exit(run(config, settings_of(context, own_state_dir)))


def _ordering(command: Command) -> Command:
    for option in (
        state_dir_option,
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        as_option,
        click.option(
            "--reason",
            required=True,
            callback=line_of_text,
            help="Why; kept in the gateway's log, later in journal and audit log.",
        ),
        click.argument("facilities", nargs=-1),
    ):
        command = option(command)
    return command


@edge.command("stop")
@_ordering
@click.pass_context
def stop(
    context: click.Context,
    facilities: tuple[str, ...],
    reason: str,
    operator: str | None,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """Bring everything of FACILITIES (of all, if none is named) to its lowest state, and hold it there until released.

    For when Postgres or the allocators are gone; else `hcp stop-all` does the same, and is explained and audited at once.
    """
    tell(send_orders(settings_of(context, own_state_dir), operator, reason, facilities, stop=True), as_json=as_json)


@edge.command("release")
@_ordering
@click.pass_context
def release(
    context: click.Context,
    facilities: tuple[str, ...],
    reason: str,
    operator: str | None,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """End the direct orders in force at FACILITIES (at all, if none is named); nothing rises by itself."""
    tell(send_orders(settings_of(context, own_state_dir), operator, reason, facilities, release=True), as_json=as_json)


@edge.command("switches")
@click.argument("facilities", nargs=-1)
@click.option("--last", type=click.IntRange(1, 10_000), default=20, show_default=True, help="So many of each facility.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def switches(
    context: click.Context, facilities: tuple[str, ...], last: int, as_json: bool, own_state_dir: Path | None
) -> None:
    """Show the last switches of devices that ran something at FACILITIES (at all, if none is named), with their phases."""
    from hcp_pipelines.cli.switches import read_switches, tell_switches

    tell_switches(read_switches(settings_of(context, own_state_dir), facilities, last), as_json=as_json)


@edge.command("assign")
@click.argument("gateway")
@click.argument("address", metavar="HOST:PORT")
@click.argument("facilities", nargs=-1, required=True)
@state_dir_option
@click.pass_context
def assign(
    context: click.Context, gateway: str, address: str, facilities: tuple[str, ...], own_state_dir: Path | None
) -> None:
    """Have GATEWAY, at HOST:PORT, serve FACILITIES, and print the file that it runs by; again after a facility file changed."""
    import yaml

    from hcp_pipelines.supervisor.elsewhere import assign_gateway

    document = assign_gateway(settings_of(context, own_state_dir), gateway, address, facilities)
    click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(edge)
