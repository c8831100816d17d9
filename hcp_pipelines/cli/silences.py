"""`hcp alerts silence|silences|unsilence`: alerts that are kept and not told for a while."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.acting import acting, as_option, line_of_text
from hcp_pipelines.cli.common import duration, instant, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

_NAMED = ("kind", "facility", "group", "device")


def _labels(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Options like `issue=xid`."""
    found = {}
    for text in values:
        name, is_one, value = text.partition("=")
        if not is_one:
            raise click.BadParameter(f"{text!r} is no label: NAME=VALUE, as issue=throttled")
        found[name] = value
    return found


@click.command("silence")
@click.option("--kind", help="What stands before the first / of the key: unsettled, check, alert.run_failed.")
@click.option("--facility", help="What is told of this facility.")
@click.option("--group", help="What is told of this group.")
@click.option("--device", help="What is told of this device.")
@click.option("--label", "labels", multiple=True, callback=_labels, metavar="NAME=VALUE", help="Any other; repeatable.")
@click.option("--critical", "is_critical", is_flag=True, help="Critical alerts as well: for an hour at most.")
@click.option("--until", "ends_at", callback=instant, metavar="T", help="Until then, real time (UTC).")
@click.option("--for", "lasts", callback=duration, metavar="2h", help="So long (90s, 30m, 2h, 1d), real time.")
@click.option("--reason", required=True, callback=line_of_text, help="Why; kept with the silence and in the audit log.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@as_option
@state_dir_option
@click.pass_context
def silence(
    context: click.Context,
    /,
    labels: dict[str, str],
    ends_at: datetime | None,
    lasts: timedelta | None,
    reason: str,
    operator: str | None,
    own_state_dir: Path | None,
    **more: Any,
) -> None:
    """Keep alerts that have all of these labels from being told, until the silence ends by itself."""
    from hcp_pipelines.alerts import silences

    matches = {name: more[name] for name in _NAMED if more[name] is not None} | labels
    is_critical, as_json = more["is_critical"], more["as_json"]
    with acting(context, own_state_dir, operator) as act:
        until = silences.until(act.clock.real_now(), ends_at, lasts)
        number, covered = silences.silence(
            act.connection, act.operator, matches, reason, until, is_critical=is_critical
        )
    told: dict[str, Any] = {"silence": number, "matches": matches, "until": until, "open_alerts": covered.alerts}
    if as_json:
        print_json(told | {"critical_left_out": covered.left_out})
        return
    click.echo(f"silence/{number} holds until {until:%Y-%m-%d %H:%M}Z; open alerts that it is of: {covered.alerts}")
    if covered.left_out:
        click.echo(f"critical ones are told all the same: {covered.left_out} (--critical, for an hour at most)")


@click.command("silences")
@click.option("--all", "with_ended", is_flag=True, help="Those that are over as well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def list_(context: click.Context, with_ended: bool, as_json: bool, own_state_dir: Path | None) -> None:
    """List silences, newest first."""
    from dataclasses import asdict

    from hcp_pipelines.alerts.silences import list_silences

    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        found = list_silences(connection, with_ended=with_ended)
    if as_json:
        print_json({"silences": [asdict(one) for one in found]})
    elif not found:
        click.echo("No silence holds.")
    else:
        rows = [
            (
                one.number,
                one.says,
                one.placed_by,
                one.reason,
                f"{one.ends_at:%Y-%m-%d %H:%M}",
                one.ended_by or "",
                one.open_alerts,
            )
            for one in found
        ]
        columns = ("id", "of alerts with", "by", "why", "until (real UTC)", "ended by", "open alerts")
        print_table("", columns, rows)


@click.command("unsilence")
@click.argument("silence", type=int)
@as_option
@state_dir_option
@click.pass_context
def unsilence(context: click.Context, silence: int, operator: str | None, own_state_dir: Path | None) -> None:
    """End SILENCE: its alerts that are still open are told within seconds."""
    from hcp_pipelines.alerts.silences import end_silence

    with acting(context, own_state_dir, operator) as act:
        matches = end_silence(act.connection, act.operator, silence)
    click.echo(f"silence/{silence} ({', '.join(f'{k} {v}' for k, v in sorted(matches.items()))}): ended")


SILENCES = (silence, list_, unsilence)
