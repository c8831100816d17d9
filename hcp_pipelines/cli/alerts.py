"""`hcp alerts`: what is wrong and who has it in hand; acknowledging; trying the sinks. Silences are in `cli.silences`."""

import asyncio
import getpass
import sys
from pathlib import Path

import click

from hcp_pipelines.cli.acting import line_of_text
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.cli.silences import SILENCES
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

_COLUMNS = (
    "id",
    "severity",
    "key",
    "summary",
    "remedy",
    "opened_at",
    "seen_at",
    "resolved_at",
    "acked_by",
    "ack_reason",
    "labels",
    "silenced_by",
)


@click.group("alerts")
def alerts() -> None:
    """What is wrong, and who was told."""


@alerts.command("list")
@click.option("--all", "with_resolved", is_flag=True, help="Those that are over as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_(context: click.Context, with_resolved: bool, as_json: bool, own_state_dir: Path | None) -> None:
    """List open alerts, newest first."""
    from hcp_pipelines.alerts.store import list_alerts

    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        rows = list_alerts(connection, with_resolved=with_resolved)
    if as_json:
        print_json({"alerts": [dict(zip(_COLUMNS, row, strict=True)) for row in rows]})
    elif not rows:
        click.echo("No alert is open.")
    else:
        shown = [
            (r[0], r[1], r[3], r[4], f"{r[5]:%m-%d %H:%M:%S}", r[8] or "", r[11], "over" if r[7] else "open")
            for r in rows
        ]
        columns = ("id", "severity", "what", "what to do", "since", "acknowledged by", "silenced by", "")
        print_table("", columns, shown)


@alerts.command("ack")
@click.argument("alert_id", type=int)
@click.option("--reason", required=True, callback=line_of_text, help="Kept with the alert and in the audit log.")
@state_dir_option
@click.pass_context
def ack(context: click.Context, alert_id: int, reason: str, own_state_dir: Path | None) -> None:
    """Say that ALERT_ID is in hand: it is not repeated any more."""
    from hcp_pipelines.alerts.store import acknowledge

    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        key = acknowledge(connection, alert_id, getpass.getuser(), reason)
    click.echo(f"{key}: acknowledged")


@alerts.command("test")
@state_dir_option
@click.pass_context
def test(context: click.Context, own_state_dir: Path | None) -> None:
    """Send a test message to every sink that is set; exit code 1 when one does not take it."""
    from hcp_pipelines.alerts.sinks import SinkError, make_sinks
    from hcp_pipelines.alerts.store import Notice

    sinks = make_sinks(settings_of(context, own_state_dir))
    if not sinks:
        raise ConfigError(
            "no sink is set: HCP_ALERT_WEBHOOK_URL, or HCP_ALERT_EMAIL_TO with HCP_SMTP_URL (docs/alerts.md)"
        )
    now = SystemClock().real_now()
    notice = Notice(0, "opened", 0, 0, "test", "info", "test", "a test: nothing is wrong", "", now, None, None)
    failed = False
    for sink in sinks:
        try:
            asyncio.run(sink.send(notice))
        except SinkError as error:
            failed = True
            click.echo(f"{sink.name}: {error}", err=True)
        else:
            click.echo(f"{sink.name}: taken")
    sys.exit(1 if failed else 0)


def register(group: click.Group) -> None:
    """Add the commands."""
    for command in SILENCES:
        alerts.add_command(command)
    group.add_command(alerts)
