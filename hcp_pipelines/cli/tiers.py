"""`hcp user limits`: what each tier of customers may have at a time, and how often it may ask."""

from pathlib import Path

import click

from hcp_pipelines.cli.acting import acting, as_option
from hcp_pipelines.cli.common import Finite, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.cli.quotas import LEAST_WEIGHT, MOST, MOST_WEIGHT
from hcp_pipelines.operators.tiers import QUOTA, RATE, set_tier, tiers
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

NAMES = ("anonymous", "free", "pro", "enterprise", "staff")
WITHOUT_WORK = ("anonymous", "staff")
COLUMNS = ("tier", "share", "waiting", "GPUs held", "retries", "credit", "requests a minute", "at once")
MOST_CREDIT = 100.0  # of a piece's price


@click.command("limits")
@click.argument("tier", type=click.Choice(NAMES), required=False)
@click.option(
    "--weight", type=Finite(min=LEAST_WEIGHT, max=MOST_WEIGHT), help="Share of GPU-time, over other customers'."
)
@click.option("--waiting", "max_waiting", type=click.IntRange(0, MOST), help="Pieces of work of a customer that wait.")
@click.option("--gpus", "max_gpus", type=click.IntRange(0, MOST), help="GPUs that a customer holds.")
@click.option("--retries", "max_retries", type=click.IntRange(0, MOST), help="Retries of each piece of work.")
@click.option(
    "--credit",
    "credit_fraction",
    type=Finite(min=0, max=MOST_CREDIT),
    help="Owed for a missed deadline: share of the price.",
)
@click.option("--requests", "per_minute", type=click.IntRange(1, MOST), help="Requests a minute to the API.")
@click.option("--burst", type=click.IntRange(1, MOST), help="Requests at once.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@as_option
@state_dir_option
@click.pass_context
def limits(
    context: click.Context, /, tier: str | None, as_json: bool, operator: str | None, own_state_dir: Path | None,
    **given: float | None,
) -> None:  # fmt: skip
    """Show the limits of all tiers; with TIER and options: set them, as an admin. A customer's own are `hcp user quota`."""
    changes = {name: value for name, value in given.items() if value is not None}
    if changes and tier is None:
        raise click.UsageError(f"of which tier? One of {', '.join(NAMES)}")
    if tier in WITHOUT_WORK and changes.keys() & set(QUOTA):
        raise click.UsageError(f"{tier} has no work of its own: --requests and --burst alone")
    if tier is not None and changes:
        with acting(context, own_state_dir, operator) as act:
            set_tier(act.connection, act.operator, tier, changes)
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = [one for one in tiers(connection) if tier in (None, one["tier"])]
    if as_json:
        print_json({"tiers": found})
        return
    print_table("", COLUMNS, [
        (one["tier"], *("" if one[name] is None else f"{one[name]:g}" for name in QUOTA), *(str(one[name]) for name in RATE))
        for one in found
    ])  # fmt: skip
