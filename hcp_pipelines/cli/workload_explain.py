"""`hcp workload explain ID`: where work was sent and why there, why not elsewhere, or why it has no place yet. From Postgres."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from hcp_pipelines.cli.common import plain, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import reading
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.workloads.decisions import Decision, decisions_of, devices_of
from hcp_pipelines.workloads.reading import Workload, read

UNDECIDED = (
    "No decision yet: it has not been its turn, no group of such devices is left to the scheduler (`scheduled: true` in a "
    "facility file), or none works (HCP_SCHEDULER=on). See docs/scheduler.md"
)
_OUTCOMES = {"placed": "placed", "none": "no place", "overflow": "no place; a cloud would do"}


@click.command("explain")
@click.argument("workload_id", type=click.UUID)
@click.option("--limit", type=click.IntRange(1, 100), default=3, show_default=True, help="Decisions, newest first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def explain(context: click.Context, workload_id: UUID, limit: int, as_json: bool, own_state_dir: Path | None) -> None:
    """Say where work was sent, why there and why not elsewhere; of work that waits, why. On the platform's machine."""
    found, decisions = asyncio.run(_read(settings_of(context, own_state_dir), workload_id, limit))
    if as_json:
        print_json(
            {"workload_id": str(workload_id), "status": found.status, "reason": found.reason, "decisions": decisions}
        )
        return
    waits = ", waits" if found.is_waiting else ""
    click.echo(plain(f"{workload_id}: {found.status}{waits}{': ' if found.reason else ''}{found.reason}").plain)
    if not decisions:
        click.echo(UNDECIDED)
    for decision in decisions:
        _show(decision)


async def _read(settings: Settings, workload_id: UUID, limit: int) -> tuple[Workload, list[dict[str, Any]]]:
    async with reading(settings, Role.CONTROL) as connection:
        found = await read(connection, workload_id, None)
        decisions = await decisions_of(connection, workload_id, limit)
        return found, [_document(one, await devices_of(connection, one)) for one in decisions]


def _document(decision: Decision, devices: list[str]) -> dict[str, Any]:
    """As JSON has it, with the devices in place of their number."""
    own = asdict(decision) | {"target_resources": devices}
    return {name: str(value) if name in ("workload_id", "decided_at") else value for name, value in own.items()}


def _show(decision: dict[str, Any]) -> None:
    where = f" at {decision['facility_id']}/{decision['group_id']}" if decision["facility_id"] else ""
    click.echo(
        plain(f"{decision['decided_at'][:19]}Z {_OUTCOMES[decision['outcome']]}{where}: {decision['reason']}").plain
    )
    if decision["score"] is not None:
        click.echo(f"score {decision['score']:.1f}, confidence {decision['confidence']:.2f}, "
                   f"{decision['devices']} devices: {_few(decision['target_resources'])}")  # fmt: skip
    print_table(
        "",
        ("group", "score, or why not"),
        [(name, _word(word)) for name, word in sorted(decision["explanation"], key=_rank)],
    )


def _rank(row: tuple[str, float | str]) -> tuple[float, str]:
    """The best score first, those without one last."""
    return (1.0 if isinstance(row[1], str) else -row[1], row[0])


def _word(word: float | str) -> str:
    return word if isinstance(word, str) else f"{word:.1f}"


def _few(devices: list[str]) -> str:
    return ", ".join(devices[:4]) + (f" … {devices[-1]}" if len(devices) > 4 else "")
