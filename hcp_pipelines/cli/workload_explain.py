"""`hcp workload explain ID`: where work was sent and why there, why not elsewhere, or why it has no place yet.

With a key over the API, as its account may be told; without one from Postgres, on the platform's machine.
"""

import asyncio
from pathlib import Path
from uuid import UUID

import click

from hcp_pipelines.cli.asking import client_of
from hcp_pipelines.cli.common import plain, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.client import Cloud, Decision, Decisions, Verdict
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import reading
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads import decisions as kept
from hcp_pipelines.workloads.reading import read

MOST = 50  # of the API's page
UNDECIDED = (
    "No decision yet: it has not been its turn, no group of such devices is left to the scheduler (`scheduled: true` in a "
    "facility file), or none works (HCP_SCHEDULER=on). See docs/scheduler.md"
)
_OUTCOMES = {"placed": "placed", "none": "no place", "overflow": "no place; a cloud would do"}


@click.command("explain")
@click.argument("workload_id", type=click.UUID)
@click.option("--limit", type=click.IntRange(1, MOST), default=3, show_default=True, help="Decisions, newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def explain(context: click.Context, workload_id: UUID, limit: int, as_json: bool, own_state_dir: Path | None) -> None:
    """Say where work was sent, why there and why not elsewhere; of work that waits, why.

    Over the API where HCP_API_KEY_FILE is set; else from Postgres, on the platform's machine.
    """
    settings = settings_of(context, own_state_dir)
    if settings.api_key_file is not None:
        with client_of(settings) as client:
            found = client.decisions(workload_id, limit)
    else:
        found = asyncio.run(_read(settings, workload_id, limit))
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    waits = ", waits" if found.is_waiting else ""
    click.echo(plain(f"{workload_id}: {found.status}{waits}{': ' if found.reason else ''}{found.reason}").plain)
    if not found.items:
        click.echo(UNDECIDED)
    for decision in found.items:
        _show(decision)


async def _read(settings: Settings, workload_id: UUID, limit: int) -> Decisions:
    """As the API tells it to staff."""
    async with reading(settings, Role.CONTROL) as connection:
        found = await read(connection, workload_id, None)
        rows = await kept.decisions_of(connection, workload_id, limit)
        items = tuple([_decision(one, await kept.devices_of(connection, one)) for one in rows])
    return Decisions(
        workload_id=workload_id, status=found.status, is_waiting=found.is_waiting, reason=found.reason, items=items, next=None
    )  # fmt: skip


def _decision(one: kept.Decision, devices: list[str]) -> Decision:
    own = {name: getattr(one, name) for name in Decision.model_fields if hasattr(one, name)}
    cloud = None
    if one.cloud_usd is not None:
        cloud = Cloud(
            provider=one.cloud_provider or "", region=one.cloud_region or "", usd=one.cloud_usd, done_at=one.cloud_done_at
        )  # fmt: skip
    groups = tuple(Verdict(**found) for found in one.by_group())
    return Decision(**own, target_resources=tuple(devices), groups=groups, cloud=cloud)


def _show(decision: Decision) -> None:
    where = f" at {decision.facility_id}/{decision.group_id}" if decision.facility_id else ""
    when = f"{decision.decided_at:%Y-%m-%d %H:%M:%S}Z"
    click.echo(plain(f"{when} {_OUTCOMES.get(decision.outcome, decision.outcome)}{where}: {decision.reason}").plain)
    if decision.score is not None:
        click.echo(f"score {decision.score:.1f}, confidence {decision.confidence or 0.0:.2f}, "
                   f"{decision.devices} devices: {_few(decision.target_resources)}")  # fmt: skip
    print_table("", ("group", "score, or why not"), [(one.group, _word(one)) for one in decision.groups])


def _word(one: Verdict) -> str:
    return one.why_not if one.score is None else f"{one.score:.1f}"


def _few(devices: tuple[str, ...]) -> str:
    return ", ".join(devices[:4]) + (f" … {devices[-1]}" if len(devices) > 4 else "")
