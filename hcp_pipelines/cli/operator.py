"""`hcp operator add|list|disable`: who may order. The account that owns the state directory decides that."""

import getpass
from dataclasses import asdict
from pathlib import Path

import click

from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.operators import accounts
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role


@click.group("operator")
def operator() -> None:
    """Who may order: operators, their roles and tokens (docs/operators.md)."""


@operator.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([r.value for r in accounts.OperatorRole]), required=True)
@state_dir_option
@click.pass_context
def add(context: click.Context, name: str, role: str, own_state_dir: Path | None) -> None:
    """Make the operator NAME with a token in a file of their own; the token itself is never shown."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        path = accounts.add(settings, connection, name, accounts.OperatorRole(role), getpass.getuser())
    click.echo(f"{name}: {role}; token in {path}. Commands take --as {name}, or HCP_OPERATOR={name}.")


@operator.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_(context: click.Context, as_json: bool, own_state_dir: Path | None) -> None:
    """List the operators."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = accounts.list_operators(connection)
    if as_json:
        print_json({"operators": [asdict(one) for one in found]})
    elif not found:
        click.echo("No operator yet: `hcp operator add NAME --role operator`.")
    else:
        rows = [
            (a.name, a.role, f"{a.created_at:%Y-%m-%d %H:%M}", a.created_by, "disabled" if a.disabled_at else "")
            for a in found
        ]
        print_table("", ("operator", "role", "since (UTC)", "made by", ""), rows)


@operator.command("disable")
@click.argument("name")
@state_dir_option
@click.pass_context
def disable(context: click.Context, name: str, own_state_dir: Path | None) -> None:
    """Take NAME's rights away; what they ordered stands until somebody releases it."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        accounts.disable(settings, connection, name, getpass.getuser())
    click.echo(f"{name}: disabled")


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(operator)
