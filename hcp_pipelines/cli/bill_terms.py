"""`hcp bill rate` and `hcp bill terms`: what bills go by, and from which day on. Rows are added, never changed."""

import getpass
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import psycopg

from hcp_pipelines.cli.billed import customer_of
from hcp_pipelines.cli.common import print_table, settings_of, state_dir_option
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import ResourceType
from hcp_pipelines.fleet.inventory import load_inventories
from hcp_pipelines.operators.audit import note
from hcp_pipelines.orchestration.billing.terms import add, kept, present
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import world_clock
from hcp_pipelines.workloads.billing.terms import in_force

MOST_USD = Decimal(10_000)  # a GPU-hour
_RATE = """
    insert into customer_rates (customer_id, gpu_type, usd_per_gpu_hour, valid_from, noted_at, actor)
    values (%s, %s, %s, %s, %s, %s)"""
_RATES = """
    select gpu_type, usd_per_gpu_hour, valid_from, actor from customer_rates where customer_id = %s order by valid_from, id"""
_EXISTS = "select exists (select from customers where id = %s)"
_SINCE = click.option(
    "--from",
    "since",
    type=click.DateTime(["%Y-%m-%d"]),
    help="First UTC day that goes by it; an earlier one is billed again.",
)


@click.command("rate")
@click.argument("customer")
@click.argument("gpu_type", required=False)
@click.argument("usd", required=False)
@_SINCE
@state_dir_option
@click.pass_context
def rate(
    context: click.Context, customer: str, gpu_type: str | None, usd: str | None, since: datetime | None,
    own_state_dir: Path | None,
) -> None:  # fmt: skip
    """Agree with CUSTOMER on USD a GPU-hour of GPU_TYPE, whatever the market asks; `none` ends that. Without them: show.

    Days that begin from now on go by it, or those from a day on that is said.
    """
    settings = settings_of(context, own_state_dir)
    customer_id, now = customer_of(settings, customer), world_clock(settings).now()
    with connect(settings, Role.OPERATOR) as connection, connection.transaction():
        if connection.execute(_EXISTS, (customer_id,)).fetchone() != (True,):
            raise ConfigError(
                f"no customer {customer}: `hcp user add NAME --role customer --customer EMAIL --tier TIER` makes one"
            )
        if gpu_type is not None:
            if usd is None:
                raise click.UsageError(f"{gpu_type} at which rate? `hcp bill rate {customer} {gpu_type} 2.10`, or none")
            agreed = _usd(usd)
            _check_type(connection, customer_id, gpu_type, is_ending=agreed is None)
            valid_from = now if since is None else since.replace(tzinfo=UTC)
            connection.execute(_RATE, (customer_id, gpu_type, agreed, valid_from, now, getpass.getuser()))
            note(connection, getpass.getuser(), "billing.rate_agreed", f"customer/{customer_id}", gpu_type=gpu_type,
                 usd_per_gpu_hour=None if agreed is None else str(agreed), valid_from=valid_from.isoformat())  # fmt: skip
        rows = connection.execute(_RATES, (customer_id,)).fetchall()
    if not rows:
        click.echo(f"{customer} has no rate of its own: what was agreed as work was placed holds, else the market's.")
        return
    print_table("", ("GPU", "$ a GPU-hour", "from (UTC)", "by"), [
        (gpu, "the market's" if own is None else f"{own:.6f}", f"{at:%Y-%m-%d %H:%M}", by) for gpu, own, at, by in rows
    ])  # fmt: skip


@click.command("terms")
@_SINCE
@click.option("--reason", default="", help="Why they are put right; goes with --from.")
@state_dir_option
@click.pass_context
def terms(context: click.Context, since: datetime | None, reason: str, own_state_dir: Path | None) -> None:
    """Show since when bills go by which terms: facility files, tiers' credits, whether energy is charged.

    A changed file counts from the day after it. With --from its terms hold from that day on as well: to put an error right.
    """
    settings = settings_of(context, own_state_dir)
    if (since is None) != (not reason):
        raise click.UsageError("--from DAY and --reason TEXT go together")
    now = world_clock(settings).now()
    with connect(settings, Role.OPERATOR) as connection, connection.transaction():
        if since is not None:
            valid_from = since.replace(tzinfo=UTC)
            if valid_from > now:
                raise click.UsageError(f"--from {valid_from:%Y-%m-%d} is yet to come: change the facility file then")
            held = in_force(kept(connection), now)
            if held is None:
                raise ConfigError("no day was billed yet: the first one notes the terms")
            charged = held.terms.is_energy_charged  # the platform's own setting, whatever this shell's is
            own = replace(present(connection, settings), is_energy_charged=charged)
            add(connection, own, valid_from, now, reason)
            note(connection, getpass.getuser(), "billing.terms_put_right", "terms",
                 valid_from=valid_from.isoformat(), reason=reason)  # fmt: skip
        found = kept(connection)
    if not found:
        click.echo("No day was billed yet: the first one notes the terms.")
        return
    print_table("", ("from (UTC)", "noted", "facilities", "energy", "credits"), [
        (f"{one.valid_from:%Y-%m-%d %H:%M}", f"{one.noted_at:%Y-%m-%d %H:%M}", len(one.terms.places.terms),
         "charged" if one.terms.is_energy_charged else "included",
         ", ".join(f"{tier} {share:.0%}" for tier, share in sorted(one.terms.credit_fractions.items())))
        for one in found
    ])  # fmt: skip


def _check_type(connection: psycopg.Connection[Any], customer_id: UUID, gpu_type: str, *, is_ending: bool) -> None:
    """A rate of a type that nobody has would never be asked for; one that there is can always be ended."""
    groups = (group for inventory in load_inventories(connection) for group in inventory.groups)
    there = {str(one.specifications.get("gpu_type") or one.model) for one in groups if one.type is ResourceType.GPU}
    agreed = {row[0] for row in connection.execute(_RATES, (customer_id,)).fetchall()} if is_ending else set[str]()
    if gpu_type not in there | agreed:
        raise click.UsageError(f"no facility has {gpu_type}: there are {', '.join(sorted(there)) or 'no GPUs'}")


def _usd(text: str) -> Decimal | None:
    if text == "none":
        return None
    try:
        usd = Decimal(text)
    except ArithmeticError:
        usd = Decimal(-1)
    if not usd.is_finite() or not 0 <= usd <= MOST_USD:
        raise click.UsageError(f"{text}: dollars a GPU-hour from 0 to {MOST_USD}, or none")
    return usd
