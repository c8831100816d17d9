"""`hcp user add|list|password|disable|quota|limits`: who may use the API, and how much. Its owner decides."""

import getpass
from pathlib import Path
from typing import TextIO

import click

from hcp_pipelines.cli.common import print_table, settings_of, state_dir_option
from hcp_pipelines.cli.quotas import quota
from hcp_pipelines.cli.tiers import limits
from hcp_pipelines.operators import users
from hcp_pipelines.operators.passwords import generated
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

_PASSWORD_FILE = click.option(
    "--password-file",
    type=click.File("r"),
    help="Holds the password (- for standard input).  Default: one is generated, and shown once.",
)


@click.group("user")
def user() -> None:
    """Who may use the API: accounts, roles, passwords (docs/api.md)."""


@user.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice([r.value for r in users.UserRole]), required=True)
@click.option("--customer", metavar="EMAIL", help="With --role customer: whose account it is.")
@click.option("--tier", type=click.Choice(users.TIERS), help="Make that customer first, in this tier.")
@_PASSWORD_FILE
@state_dir_option
@click.pass_context
def add(
    context: click.Context,
    name: str,
    role: str,
    customer: str | None,
    tier: str | None,
    password_file: TextIO | None,
    own_state_dir: Path | None,
) -> None:
    """Make the account NAME."""
    by, given = getpass.getuser(), _given(password_file)
    with connect(settings_of(context, own_state_dir), Role.API) as connection, connection.transaction():
        if tier is not None and customer is not None:
            users.add_customer(connection, customer, customer, tier, by)
        customer_id = users.customer_id_of(connection, customer) if customer is not None else None
        password = given or generated()
        users.add_user(connection, name, users.UserRole(role), password, by, customer_id, is_generated=not given)
    click.echo(f"{name}: {role}" + ("" if given else f"; password, shown this once: {password}"))


@user.command("list")
@state_dir_option
@click.pass_context
def list_(context: click.Context, own_state_dir: Path | None) -> None:
    """List the accounts."""
    with connect(settings_of(context, own_state_dir), Role.API) as connection:
        found = users.list_users(connection)
    if not found:
        click.echo("No account yet: `hcp user add NAME --role operator`.")
        return
    rows = [(u.name, u.role.value, f"{u.created_at:%Y-%m-%d %H:%M}", u.created_by, _note(u)) for u in found]
    print_table("", ("user", "role", "since (UTC)", "made by", ""), rows)


@user.command("password")
@click.argument("name")
@_PASSWORD_FILE
@state_dir_option
@click.pass_context
def password(context: click.Context, name: str, password_file: TextIO | None, own_state_dir: Path | None) -> None:
    """Give NAME another password; their sessions end."""
    given = _given(password_file)
    fresh = given or generated()
    with connect(settings_of(context, own_state_dir), Role.API) as connection:
        users.set_password(
            connection, users.user_id_of(connection, name), fresh, getpass.getuser(), is_generated=not given
        )
    click.echo(f"{name}: changed" + ("" if given else f"; password, shown this once: {fresh}"))


@user.command("disable")
@click.argument("name")
@state_dir_option
@click.pass_context
def disable(context: click.Context, name: str, own_state_dir: Path | None) -> None:
    """Close NAME's account: neither password nor sessions nor keys open anything."""
    with connect(settings_of(context, own_state_dir), Role.API) as connection:
        users.disable_user(connection, users.user_id_of(connection, name), getpass.getuser())
    click.echo(f"{name}: disabled")


def _given(password_file: TextIO | None) -> str:
    return password_file.read().strip() if password_file is not None else ""


def _note(one: users.User) -> str:
    return "disabled" if one.disabled_at else "password generated" if one.is_password_generated else ""


def register(group: click.Group) -> None:
    """Add the commands."""
    user.add_command(quota)
    user.add_command(limits)
    group.add_command(user)
