"""`hcp train TARGET`: Dagster learns a forecast anew, as from its launchpad. The request is in `orchestration.training`."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.common import print_json, settings_of, state_dir_option
from hcp_pipelines.orchestration.training.targets import DAYS, TARGETS, USUAL_DAYS
from hcp_pipelines.runtime.process import read_clock
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage import models
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

USUAL = ", ".join((str(USUAL_DAYS), *(f"of {name} {days}" for name, days in DAYS.items())))


@click.command("train")
@click.argument("target", type=click.Choice(sorted(TARGETS)))
@click.option(
    "--days",
    type=click.IntRange(56, 3700),
    default=0,
    help=f"Learnt from; the last 28 or more are its trial.  [default: {USUAL}]",
)
@click.option("--group", "groups", multiple=True, help="Of this entity alone; again for more.  [default: all]")
@click.option("--model", default="", help="One of the target's.  [default: the one that ships]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--promote/--no-promote", "may_promote", default=True, help="Whether the check may promote it.  [default: it may]"
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def train(context: click.Context, /, as_json: bool, own_state_dir: Path | None, **options: Any) -> None:
    """Learn the forecast of TARGET anew, try it beside the champion, and let the check promote it if it is better.

    Exit codes: 0 a version was made, 1 none was or the run failed. Ctrl-C leaves the run to Dagster.
    """
    settings = settings_of(context, own_state_dir)
    target = str(options["target"])
    before = _newest(settings, target)
    status = asyncio.run(_run(settings, options))
    found = _newest(settings, target)
    made = found if found and found["version"] != (before or {}).get("version") else None
    if as_json:
        print_json({"run": status, "version": made})
    elif made is None:
        click.echo(f"The run ended as {status}; no version was made: its page says why.", err=True)
    else:
        click.echo(f"{target} {made['version']} is {made['status']}: {made['reason']}")
    sys.exit(0 if status == "SUCCESS" and made else 1)


async def _run(settings: Settings, options: dict[str, Any]) -> str:
    import httpx

    from hcp_pipelines.orchestration.training.asking import request
    from hcp_pipelines.orchestration.training.told import Asked

    def began(run_id: str) -> None:
        click.echo(f"http://127.0.0.1:{settings.dagster_port}/runs/{run_id}", err=True)

    async with httpx.AsyncClient() as client:
        run = await request(client, settings.dagster_port, read_clock(settings), Asked(**options), began)
    return run.status


def _newest(settings: Settings, name: str) -> dict[str, Any] | None:
    with connect(settings, Role.OPERATOR) as connection:
        rows = models.listed(connection, 1, name)
    return {key: value for key, value in rows[0].items() if key != "metadata"} if rows else None


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(train)
