"""`hcp backfill`: days of history from their sources, by Dagster, as its UI does it. The requests are in `orchestration`."""

import asyncio
import sys
from datetime import datetime, timedelta
from pathlib import Path

import click
import httpx

from hcp_pipelines.cli.common import bars, instant, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.domain.clock import Clock
from hcp_pipelines.domain.errors import NotRunningError
from hcp_pipelines.orchestration.backfilling import Backfill, Backfilling, Progress
from hcp_pipelines.orchestration.history.plan import Order, assets_by_source, orders
from hcp_pipelines.orchestration.history.pool import configured
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings


@click.command("backfill")
@click.argument("assets", nargs=-1, metavar="[ASSET]...")
@click.option("--all", "is_all", is_flag=True, help="Every source, and what is joined of them.")
@click.option("--from", "start", callback=instant, required=True, help="First UTC day.")
@click.option("--to", "end", callback=instant, help="The day after the last one.  [default: today in the world]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def backfill(
    context: click.Context, /, assets: tuple[str, ...], is_all: bool, start: datetime, end: datetime | None, as_json: bool,
    own_state_dir: Path | None,
) -> None:  # fmt: skip
    """Fetch days of history again, or for the first time; what is there is replaced, live ingestion goes on.

    Exit codes: 0 all days are there, 1 some are not, 2 wrong usage. Ctrl-C leaves the backfills to Dagster.
    """
    if bool(assets) == is_all:
        raise click.UsageError("name assets, or say --all; `raw_ercot__rt_spp` is one")
    settings = settings_of(context, own_state_dir)
    clock = read_clock(settings)
    now = clock.now()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    wanted = (
        [name for names in assets_by_source(configured(settings)).values() for name in names]
        if is_all
        else list(dict.fromkeys(assets))
    )
    asked, notes = orders(wanted, start, end or today, now)
    for note in notes:
        click.echo(f"left out: {note}", err=True)
    began_s = clock.monotonic_s()
    with bars() as progress:
        done = _run(settings, clock, asked, progress)
    seconds = round(clock.monotonic_s() - began_s, 1)
    _tell(settings, asked, done, seconds, as_json=as_json)
    sys.exit(0 if len(done) == len(asked) and all(each.is_complete for each in done) else 1)


def _run(settings: Settings, clock: Clock, asked: list[Order], progress: Progress) -> list[Backfill]:
    async def followed() -> list[Backfill]:
        async with httpx.AsyncClient() as client:
            work = Backfilling(client, settings.dagster_port, clock)
            try:
                await work.run(asked, progress)
            except asyncio.CancelledError:
                ids = ", ".join(_page(settings, each) for each in work.backfills)
                click.echo(f"left to Dagster: {ids}" if ids else "nothing was asked for yet", err=True)
                raise
            return work.backfills

    if not asked:
        raise NotRunningError("none of these days can be asked for any more")
    return asyncio.run(followed())


def _tell(settings: Settings, asked: list[Order], done: list[Backfill], seconds: float, *, as_json: bool) -> None:
    rows = [
        (asset, each.order.source, len(each.order.days), each.done.get(asset, 0), each.failed.get(asset, 0), each.id)
        for each in done
        for asset in each.order.assets
    ]
    columns = ("asset", "source", "days", "done", "failed", "backfill_id")
    if as_json:
        told = [dict(zip(columns, row, strict=True)) for row in rows]
        print_json(
            {"seconds": seconds, "assets": told, "not_asked_for": [order.source for order in asked[len(done) :]]}
        )
    else:
        title = f"{sum(row[3] for row in rows)} days of {len(rows)} assets in {timedelta(seconds=round(seconds))}"
        print_table(title, columns[:-1], [row[:-1] for row in rows])
    for each in done:
        if not each.is_complete:
            why = f": {each.error}" if each.error else ""
            click.echo(f"{each.order.source}: {each.status.lower()}{why}; its runs: {_page(settings, each)}", err=True)


def _page(settings: Settings, backfill: Backfill) -> str:
    return f"http://127.0.0.1:{settings.dagster_port}/runs/b/{backfill.id}"


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(backfill)
