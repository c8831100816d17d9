"""`hcp directives`: what stands over the facilities besides their policies, and what waits for a second person."""

from pathlib import Path

import click

from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.operators.listing import Directive, Standing, what_stands
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import world_clock


@click.command("directives")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def directives(context: click.Context, as_json: bool, own_state_dir: Path | None) -> None:
    """Show what stands: overrides, curtailments, stops, locks, and what waits for approval. Times are simulated."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        stands = what_stands(connection, world_clock(settings).now())
    if as_json:
        print_json(stands.as_dict())
    else:
        _print(stands)


def _print(stands: Standing) -> None:
    if not (stands.directives or stands.lockouts or stands.approvals):
        click.echo("Nothing stands: the policies decide.")
    if stands.directives:
        rows = [(d.name, d.facility_id, d.says, d.status, d.actor, d.reason, _until(d)) for d in stands.directives]
        print_table("orders", ("order", "facility", "what", "status", "by", "why", "until (simulated UTC)"), rows)
    if stands.lockouts:
        locks = [(x.name, x.facility_id, x.feeder_id or x.scope, x.status, x.holder, x.reason) for x in stands.lockouts]
        print_table("locks", ("lock", "facility", "of", "status", "holder", "why"), locks)
    if stands.approvals:
        waiting = [
            (
                a.approval_id,
                a.facility_id,
                a.subject,
                f"{a.mw:.2f}",
                a.requested_by,
                a.detail,
                f"{a.expires_at:%m-%d %H:%M}",
            )
            for a in stands.approvals
        ]
        columns = ("approval", "facility", "of", "MW", "asked by", "what", "until (simulated UTC)")
        print_table("waiting for `hcp approve`", columns, waiting)


def _until(directive: Directive) -> str:
    return f"{directive.valid_until:%Y-%m-%d %H:%M}" if directive.valid_until else "released"


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(directives)
