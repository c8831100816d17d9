"""`hcp workload submit|list|show|explain|watch|cancel`: customers' work over the HTTP API, from this machine or from another.

The key comes from a file (HCP_API_KEY_FILE), never from an argument: those are seen by everybody on the machine.
"""

import json
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from uuid import UUID

import click
from pydantic import ValidationError

from hcp_pipelines.cli.asking import client_of
from hcp_pipelines.cli.common import (
    Finite,
    duration,
    instant,
    plain,
    print_json,
    print_table,
    settings_of,
    state_dir_option,
)
from hcp_pipelines.cli.workload_explain import explain
from hcp_pipelines.client import Client, StateChanged, Workload, WorkloadSpec
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.workloads import WorkloadState, WorkloadType

_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ID = click.argument("workload_id", type=click.UUID)
_CUSTOMER = click.option(
    "--customer", "customer_id", type=click.UUID, help="Of operators and admins: whose work it is."
)


@click.group("workload")
def workload() -> None:
    """Customers' work over the HTTP API (docs/api.md), with the key of HCP_API_KEY_FILE."""


@workload.command("submit")
@click.option(
    "--file", "file", type=click.File("r"), help="The specification as JSON (- for standard input); options win."
)
@click.option("--type", "workload_type", type=click.Choice([t.value for t in WorkloadType]), help="Default: inferred.")
@click.option("--model", "model_name", help="Name of the model, like llama-3-70b.")
@click.option("--training", "is_training", is_flag=True, default=None, help="It trains a model.")
@click.option("--gpus", "gpu_count", type=int, help="GPUs, all at once.  [default: 1]")
@click.option("--gpu-type", help="As the fleet names it, like H100.")
@click.option("--max-latency-ms", type=Finite(min=0, min_open=True), help="Longest answer time that is of use.")
@click.option("--duration", "estimated", callback=duration, metavar="DURATION", help="Of running: 90s, 30m, 2h.")
@click.option(
    "--deadline", "deadline_at", callback=instant, metavar="INSTANT", help="When it has to be done, world time."
)
@click.option("--priority", type=int, help="1 (most urgent) to 10.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="As often as needed.")
@_CUSTOMER
@click.option("--idempotency-key", help="The same submission with the same key is done once.  Default: a fresh one.")
@click.option("--watch", "then_watch", is_flag=True, help="Stay until it is over; exit code 1 unless it is completed.")
@_JSON
@state_dir_option
@click.pass_context
def submit(
    context: click.Context,
    /,
    *,
    file: TextIO | None,
    estimated: timedelta | None,
    labels: tuple[str, ...],
    customer_id: UUID | None,
    idempotency_key: str | None,
    then_watch: bool,
    as_json: bool,
    own_state_dir: Path | None,
    **given: Any,
) -> None:
    """Submit work to the queue."""
    if estimated is not None:
        given["estimated_duration_s"] = estimated.total_seconds()
    spec = _spec(file, given, labels)
    with client_of(settings_of(context, own_state_dir)) as client:
        made = client.submit(spec, customer_id=customer_id, idempotency_key=idempotency_key)
        if as_json:
            click.echo(made.model_dump_json(indent=None if then_watch else 2))
        else:
            again = " (submitted before under this key)" if made.is_repeat else ""
            click.echo(f"{made.workload_id}: {made.status}{again}, {made.workload_type}, priority {made.priority}, "
                       f"place {made.queue_position}")  # fmt: skip
            click.echo(plain(f"because {'; '.join(made.reasons)}" + (" (in doubt)" if made.is_flagged else "")).plain)
        if then_watch:
            _watch(client, made.workload_id, as_json)


@workload.command("list")
@click.option("--status", type=click.Choice([s.value for s in WorkloadState]), help="Only these.")
@click.option("--type", "workload_type", type=click.Choice([t.value for t in WorkloadType]), help="Only these.")
@click.option("--priority", type=click.IntRange(1, 10), help="Only these.")
@_CUSTOMER
@click.option("--from", "submitted_from", callback=instant, metavar="INSTANT", help="Submitted then or later.")
@click.option("--until", "submitted_until", callback=instant, metavar="INSTANT", help="Submitted before.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@_JSON
@state_dir_option
@click.pass_context
def list_(
    context: click.Context,
    *,
    status: str | None,
    workload_type: str | None,
    priority: int | None,
    customer_id: UUID | None,
    submitted_from: datetime | None,
    submitted_until: datetime | None,
    limit: int,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """List workloads, newest first."""
    with client_of(settings_of(context, own_state_dir)) as client:
        every = client.workloads(
            status=None if status is None else WorkloadState(status),
            type=None if workload_type is None else WorkloadType(workload_type),
            priority=priority,
            customer_id=customer_id,
            submitted_from=submitted_from,
            submitted_until=submitted_until,
            page=min(limit + 1, 100),
        )
        found = list(islice(every, limit + 1))
    if as_json:
        print_json([one.model_dump(mode="json") for one in found[:limit]])
        return
    if not found:
        click.echo("No such workload.")
        return
    columns = ("workload", "type", "priority", "state", "GPUs", "submitted (UTC)", "facility", "USD", "reason")
    print_table("", columns, map(_row, found[:limit]))
    if len(found) > limit:
        click.echo(f"There are more than --limit {limit}.")


@workload.command("show")
@_ID
@_JSON
@state_dir_option
@click.pass_context
def show(context: click.Context, workload_id: UUID, as_json: bool, own_state_dir: Path | None) -> None:
    """Show WORKLOAD_ID whole."""
    with client_of(settings_of(context, own_state_dir)) as client:
        found = client.workload(workload_id).model_dump(mode="json")
    if as_json:
        print_json(found)
        return
    told = {name: json.dumps(v) if isinstance(v, dict) else v for name, v in found.items() if v not in (None, "")}
    print_table("", ("", ""), told.items())


@workload.command("watch")
@_ID
@_JSON
@state_dir_option
@click.pass_context
def watch(context: click.Context, workload_id: UUID, as_json: bool, own_state_dir: Path | None) -> None:
    """Tell the states of WORKLOAD_ID until it is over; exit code 1 unless it is completed."""
    with client_of(settings_of(context, own_state_dir)) as client:
        _watch(client, workload_id, as_json)


@workload.command("cancel")
@_ID
@_JSON
@state_dir_option
@click.pass_context
def cancel(context: click.Context, workload_id: UUID, as_json: bool, own_state_dir: Path | None) -> None:
    """Cancel WORKLOAD_ID, unless it is over."""
    with client_of(settings_of(context, own_state_dir)) as client:
        done = client.cancel(workload_id)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        click.echo(f"{done.workload_id}: {done.status}")


def _spec(file: TextIO | None, given: dict[str, Any], labels: Iterable[str]) -> WorkloadSpec:
    """The specification of a file, with the options over it."""
    source = "the options" if file is None else file.name
    try:
        asked = {} if file is None else json.load(file)
    except ValueError as error:
        raise ConfigError(f"{source}: no JSON: {error}") from None
    if not isinstance(asked, dict):
        raise ConfigError(f'{source}: one JSON object is wanted, like {{"model_name": "llama-3-70b"}}')
    asked |= {name: value for name, value in given.items() if value is not None}
    if named := dict(map(_label, labels)):
        asked["labels"] = dict(asked.get("labels") or {}) | named
    try:
        return WorkloadSpec.model_validate(asked)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        raise ConfigError(f"{source}: {wrong}") from None


def _label(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"--label {text}: NAME=VALUE is wanted")
    return name, value


def _watch(client: Client, workload_id: UUID, as_json: bool) -> None:
    """Print each state; the exit code is told by the last one."""
    last = None
    for last in client.watch(workload_id):
        click.echo(last.model_dump_json() if as_json else _line(last))
        sys.stdout.flush()
    if last is None or last.new_state is not WorkloadState.COMPLETED:
        sys.exit(1)


def _line(change: StateChanged) -> str:
    waits = ", waits in the queue" if change.is_waiting and change.new_state is not WorkloadState.QUEUED else ""
    why = f": {change.reason}" if change.reason else ""
    return plain(f"{change.timestamp:%Y-%m-%d %H:%M:%S}  {change.new_state}{waits}{why}").plain


def _row(one: Workload) -> tuple[object, ...]:
    return (
        one.workload_id,
        one.type,
        one.priority,
        one.status,
        one.requirements.get("gpu_count"),
        f"{one.submitted_at:%Y-%m-%d %H:%M}",
        one.facility_id,
        None if one.cost is None else f"{one.cost:.2f}",
        one.reason,
    )


def register(group: click.Group) -> None:
    """Add the commands."""
    workload.add_command(explain)
    group.add_command(workload)
