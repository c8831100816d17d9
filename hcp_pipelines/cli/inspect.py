"""`hcp status`, `hcp doctor`, `hcp policy show|bids|offers`: looking, never changing."""

import sys
from pathlib import Path

import click
from rich.console import Console

from hcp_pipelines.cli.bids import bids
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.cli.offers import offers
from hcp_pipelines.cli.screen import status_screen
from hcp_pipelines.domain.errors import HcpError, NotRunningError
from hcp_pipelines.policy.schema import Policy
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.doctor import examine
from hcp_pipelines.supervisor.status import read_status

_NEWEST_POLICIES = """
    select distinct on (p.facility_id) p.id, p.body, p.run_id, p.trigger,
           (select case when is_admitted then 'yes' else 'no: ' || reason end from policy_admissions a
            where a.policy_id = p.id order by a.id desc limit 1)
    from policies p where p.status = 'live' and (%(facility)s::text is null or p.facility_id = %(facility)s)
    order by p.facility_id, p.id desc"""


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def status(context: click.Context, as_json: bool, own_state_dir: Path | None) -> None:
    """Show what runs, how fresh it is, and the last switches. Exit code 1 when something is not well."""
    try:
        seen = read_status(settings_of(context, own_state_dir))
    except NotRunningError as error:
        if as_json:
            print_json({"healthy": False, "processes": [], "error": str(error)})
            sys.exit(1)
        raise
    if as_json:
        print_json(seen)
    else:
        Console().print(status_screen(seen["processes"], seen["urls"], seen))
    sys.exit(0 if seen["healthy"] else 1)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def doctor(context: click.Context, as_json: bool, own_state_dir: Path | None) -> None:
    """Say what is wrong and how to mend it. Exit code 1 when something is."""
    findings = examine(settings_of(context, own_state_dir))
    if as_json:
        print_json({"well": all(f.is_well for f in findings), "checks": [f.as_dict() for f in findings]})
    else:
        rows = [("ok" if f.is_well else "WRONG", f.check, f.found, "" if f.is_well else f.remedy) for f in findings]
        print_table("", ("", "check", "found", "what to do"), rows)
    sys.exit(0 if all(f.is_well for f in findings) else 1)


@click.group("policy")
def policy() -> None:
    """The policies in force."""


@policy.command("show")
@click.argument("facility", required=False)
@click.option("--json", "as_json", is_flag=True, help="The policies as published.")
@state_dir_option
@click.pass_context
def show(context: click.Context, facility: str | None, as_json: bool, own_state_dir: Path | None) -> None:
    """Show the newest live policy of FACILITY (of each, if none is named): blocks in merit order with their strikes."""
    with connect(settings_of(context, own_state_dir), Role.OPERATOR) as connection:
        rows = connection.execute(_NEWEST_POLICIES, {"facility": facility}).fetchall()
    if not rows:
        raise HcpError(
            f"No live policy yet{f' of facility {facility!r}' if facility else ''}. `hcp status` tells whether ticks come in "
            "and Dagster runs, `hcp facility list` which facilities there are."
        )
    if as_json:
        print_json([{"id": i, "run_id": r, "admission": a, "policy": b} for i, b, r, _, a in rows])
        return
    for policy_id, body, run_id, trigger, admission in rows:
        _print_policy(policy_id, Policy.model_validate(body), run_id, trigger, admission)


def _print_policy(policy_id: int, body: Policy, run_id: str | None, trigger: str, admission: str | None) -> None:
    title = (
        f"{body.facility_id} · policy {policy_id} · run {run_id} ({trigger}) · basis tick {body.basis_tick_id} · "
        f"solved {body.solved_at:%Y-%m-%d %H:%M}Z · expires {body.expires_at:%H:%M}Z · admission {admission or 'not seen yet'}"
    )
    indices = body.anchor.indices
    rows = [
        (
            block.order,
            block.group_id,
            f"{block.from_state.label} → {block.to_state.label}",
            block.devices,
            f"{block.mw:.2f}",
            f"{block.on.at(indices.get(block.index, 0.0)):.2f}",
            f"{block.off.at(indices.get(block.index, 0.0)):.2f}",
            block.index,
        )
        for block in sorted(body.blocks, key=lambda b: b.order)
    ]
    print_table(title, ("order", "group", "step", "devices", "MW", "on below $/MWh", "off above $/MWh", "index"), rows)
    click.echo(
        f"at the anchor: decision price {body.anchor.decision_price_usd_per_mwh:.2f} $/MWh, "
        + ", ".join(f"{name} {value:.4g}" for name, value in indices.items())
        + f"; cap {body.couplings.cap_mw:.2f} MW, floor {body.couplings.floor_mw:.2f} MW"
        + (f"; strikes from {body.strikes_from.words}" if body.strikes_from else "")
        + (f"; room for work to come: {body.expected.words}" if body.expected else "")
    )


def register(group: click.Group) -> None:
    """Add the commands."""
    policy.add_command(bids)
    policy.add_command(offers)
    for command in (status, doctor, policy):
        group.add_command(command)
