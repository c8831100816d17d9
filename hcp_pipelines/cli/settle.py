"""`hcp settle`: what was earned, by day and kind, as settled. Read from the lake; days are settled by `settlement_job`."""

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.common import Finite, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.cli.settle_market import print_comparison, print_statement
from hcp_pipelines.domain.errors import StorageError
from hcp_pipelines.economics.settlement import KINDS
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.query import run_select
from hcp_pipelines.supervisor.status import world_clock

DEFAULT_DAYS = 14
_THERE = "select count(*) from information_schema.tables where table_schema = 'core' and table_name = 'hcp__settlement'"
_BY_DAY = """
select operating_day, facility_id, kind, sum(usd) as usd, count(*) filter (usd is null) as unknown,
       sum(quantity) filter (kind = 'energy') as mwh
from core.hcp__settlement where operating_day >= date '{since}' and operating_day <= date '{until}' {facility}
group by all order by operating_day desc, facility_id, kind"""


@click.command("settle")
@click.option(
    "--from", "since", type=click.DateTime(["%Y-%m-%d"]), help="First operating day.  [default: 14 days back]"
)
@click.option("--to", "until", type=click.DateTime(["%Y-%m-%d"]), help="Last operating day.  [default: today]")
@click.option("--facility", help="Of one facility.")
@click.option(
    "--market",
    "shape",
    flag_value="market",
    help="In the shape of the market's own statement: CSV, charges above zero.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The market's statement (CSV): show where it differs, exit code 1 if it does.",
)
@click.option(
    "--tolerance",
    "tolerance_usd",
    type=Finite(0, 1000),
    default=0.01,
    show_default=True,
    help="Dollars that an interval may be off.",
)
@click.option("--json", "shape", flag_value="json", help="One JSON object.")
@state_dir_option
@click.pass_context
def settle(
    context: click.Context, since: datetime | None, until: datetime | None, facility: str | None,
    against: Path | None, tolerance_usd: float, shape: str | None, own_state_dir: Path | None,
) -> None:  # fmt: skip
    """Show what was earned by operating day and kind, dollars as settled (docs/settlement.md); costs are below zero.

    Lines whose price is not known yet are counted in `unknown` and are in no sum.
    """
    settings = settings_of(context, own_state_dir)
    if against is not None:
        if shape == "market" or since or until:
            raise click.UsageError("--against goes by the days of its file: no --market, --from or --to beside it")
        _must_be_settled(settings)
        if not print_comparison(settings, against, facility, tolerance_usd, as_json=shape == "json"):
            context.exit(1)
        return
    last = until.date() if until else world_clock(settings).now().date()
    first = since.date() if since else last - timedelta(days=DEFAULT_DAYS)
    if first > last:
        raise click.UsageError(f"--from {first} is after --to {last}")
    if shape == "market":
        _must_be_settled(settings)
        print_statement(settings, first, last, facility)
        return
    days = _days(run_select(settings, _query(first, last, facility)).rows) if _is_settled(settings) else []
    if shape == "json":
        print_json({"from": first, "to": last, "days": days})
    elif not days:
        of = f" of {facility}" if facility else ""
        hint = " `hcp facility list` shows the facilities there are." if facility else ""
        click.echo(
            f"Nothing{of} is settled from {first} to {last}: settlement_job settles a day of the world when it is over.{hint}"
        )
    else:
        kinds = [kind for kind in KINDS if any(kind in day["usd"] for day in days)]
        columns = ("operating day", "facility", "net $", *(f"{kind} $" for kind in kinds), "MWh", "unknown")
        print_table("What was earned, as settled", columns, [_row(day, kinds) for day in days])


def _must_be_settled(settings: Settings) -> None:
    if not _is_settled(settings):
        raise StorageError("Nothing is settled yet: settlement_job settles a day of the world when it is over.")


def _is_settled(settings: Settings) -> bool:
    return bool(run_select(settings, _THERE).rows[0][0])


def _query(first: date, last: date, facility: str | None) -> str:
    quoted = "'" + (facility or "").replace("'", "''") + "'"
    return _BY_DAY.format(since=first, until=last, facility=f"and facility_id = {quoted}" if facility else "")


def _days(rows: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """A dict an operating day and facility, dollars by kind in it."""
    found: dict[tuple[date, str], dict[str, Any]] = {}
    for day, facility, kind, usd, unknown, mwh in rows:
        empty = {"operating_day": day, "facility_id": facility, "net_usd": 0, "usd": {}, "mwh": 0.0, "unknown": 0}
        entry = found.setdefault((day, facility), empty)
        entry["usd"][kind] = usd or 0
        entry["net_usd"] += usd or 0
        entry["mwh"] += mwh or 0.0
        entry["unknown"] += unknown
    return list(found.values())


def _row(day: dict[str, Any], kinds: list[str]) -> tuple[str, ...]:
    money = (f"{day['usd'].get(kind, 0):,.2f}" for kind in kinds)
    about = str(day["operating_day"]), day["facility_id"], f"{day['net_usd']:,.2f}"
    return (*about, *money, f"{day['mwh']:,.1f}", f"{day['unknown']:,}")


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(settle)
