"""`hcp report`: a day's report as a page, drawn now from the lake's marts."""

from datetime import datetime
from pathlib import Path

import click

from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option


@click.command("report")
@click.argument("kind", type=click.Choice(["daily", "market", "fleet"]))
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="The day.  [default: the newest there is]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def report(context: click.Context, kind: str, day: datetime | None, as_json: bool, own_state_dir: Path | None) -> None:
    """Draw a report of a day: daily operations, market, or fleet health, as one HTML file that needs no network.

    The day is ERCOT's operating day (Central time); of fleet health a UTC day.
    """
    from hcp_pipelines.orchestration.reports.make import Kind, make_report  # plotly: 0.5 s

    done = make_report(settings_of(context, own_state_dir), Kind(kind), day.date() if day else None)
    if as_json:
        rows = [dict(zip(done.drawn.columns, row, strict=True)) for row in done.drawn.rows]
        print_json({"kind": kind, "day": done.day, "page": done.path, "notes": done.drawn.notes, "rows": rows})
        return
    print_table(done.drawn.title, done.drawn.columns, done.drawn.rows)
    for note in done.drawn.notes:
        click.echo(note)
    click.echo(str(done.path))


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(report)
