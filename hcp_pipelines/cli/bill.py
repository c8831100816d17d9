"""`hcp bill CUSTOMER`: what a customer's work used and what it costs. Read from the lake; days are billed by `billing_job`.

Its other commands: `statement` (a month in cents), `rate` and `terms` (what bills go by, and from when on).
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli import bill_statement, bill_terms
from hcp_pipelines.cli.billed import csv_of, customer_of
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.storage.query import run_select
from hcp_pipelines.supervisor.status import world_clock

DEFAULT_DAYS = 30
KEYS = {"day": ("operating_day", "facility_id", "type"), "workload": ("workload_id", "facility_id", "type")}
_THERE = "select count(*) from information_schema.tables where table_schema = 'core' and table_name = 'hcp__billing'"
_BILL = """
select {keys}, sum(gpu_s) filter (treatment = 'billed') / 3600 as gpu_hours,
       sum(gpu_s) filter (treatment <> 'billed') / 3600 as unbilled_gpu_hours,
       sum(gpu_usd) filter (treatment = 'billed') as gpu_usd, sum(energy_mwh) filter (treatment = 'billed') as mwh,
       sum(energy_usd) filter (treatment = 'billed') as energy_usd, sum(usd) as usd, count(*) filter (usd is null) as unknown
from core.hcp__billing
where customer_id = '{customer}' and operating_day >= date '{since}' and operating_day <= date '{until}'
group by all order by all"""
_TOLD = ("gpu_hours", "unbilled_gpu_hours", "gpu_usd", "mwh", "energy_usd", "usd", "unknown")


class _UsageUnlessNamed(click.Group):
    """`hcp bill CUSTOMER …` is `hcp bill usage CUSTOMER …`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Which command is meant."""
        is_named = not args or args[0] in self.commands or args[0] in ctx.help_option_names
        return super().parse_args(ctx, args if is_named else ["usage", *args])


@click.group("bill", cls=_UsageUnlessNamed)
def bill() -> None:
    """What customers' work costs (docs/billing.md). `hcp bill CUSTOMER` is short for `hcp bill usage CUSTOMER`."""


@bill.command("usage")
@click.argument("customer")
@click.option(
    "--from", "since", type=click.DateTime(["%Y-%m-%d"]), help="First operating day.  [default: 30 days back]"
)
@click.option("--to", "until", type=click.DateTime(["%Y-%m-%d"]), help="Last operating day.  [default: today]")
@click.option(
    "--by", type=click.Choice(list(KEYS)), default="day", show_default=True, help="A row a day, or a piece of work."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--csv", "as_csv", is_flag=True, help="Rows with a header.")
@state_dir_option
@click.pass_context
def usage(
    context: click.Context, customer: str, since: datetime | None, until: datetime | None, by: str, as_json: bool, as_csv: bool,
    own_state_dir: Path | None,
) -> None:  # fmt: skip
    """Show what the work of CUSTOMER (an e-mail address, or an id) used and costs by operating day (docs/billing.md).

    Lines whose price is not known yet are counted in `unknown` and are in no sum.
    """
    settings = settings_of(context, own_state_dir)
    last = until.date() if until else world_clock(settings).now().date()
    first = since.date() if since else last - timedelta(days=DEFAULT_DAYS)
    if first > last:
        raise click.UsageError(f"--from {first} is after --to {last}")
    if as_json and as_csv:
        raise click.UsageError("--json or --csv, not both")
    customer_id, keys = customer_of(settings, customer), KEYS[by]
    query = _BILL.format(keys=", ".join(keys), customer=customer_id, since=first, until=last)
    found = run_select(settings, query).rows if run_select(settings, _THERE).rows[0][0] else []
    rows = [dict(zip((*keys, *_TOLD), _filled(row, len(keys)), strict=True)) for row in found]
    if as_json:
        print_json({"customer_id": str(customer_id), "from": first, "to": last, "rows": rows})
    elif as_csv:
        click.echo(csv_of((*keys, *_TOLD), rows), nl=False)
    elif not rows:
        click.echo(
            f"Nothing is billed to {customer} from {first} to {last}: billing_job bills a day of the world when it is over."
        )
    else:
        columns = (
            *(key.replace("_", " ") for key in keys),
            "GPU-hours",
            "not billed",
            "GPU $",
            "MWh",
            "energy $",
            "$",
            "unknown",
        )
        total = sum(row["usd"] for row in rows)
        print_table(f"What the work of {customer} costs: ${total:,.2f}", columns, [_shown(row, keys) for row in rows])


def _filled(row: tuple[Any, ...], keys: int) -> tuple[Any, ...]:
    """Sums of nothing are 0."""
    return (*row[:keys], *(0 if value is None else value for value in row[keys:]))


def _shown(row: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    named = (str(row[key] or "") for key in keys)
    sums = (f"{row[name]:,.2f}" for name in ("gpu_hours", "unbilled_gpu_hours", "gpu_usd"))
    return *named, *sums, f"{row['mwh']:,.3f}", f"{row['energy_usd']:,.2f}", f"{row['usd']:,.2f}", f"{row['unknown']:,}"


def register(group: click.Group) -> None:
    """Add the commands."""
    bill.add_command(bill_statement.statement)
    bill.add_command(bill_terms.rate)
    bill.add_command(bill_terms.terms)
    group.add_command(bill)
