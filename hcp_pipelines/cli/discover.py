"""`hcp discover`: find miners and GPU nodes on ranges of addresses, and bring the inventory up to date with what was found."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path

import click
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hcp_pipelines.cli.common import Finite, print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.devices.discovery.found import OnProgress, Scan, merge
from hcp_pipelines.devices.discovery.ranges import expand
from hcp_pipelines.devices.miner.telemetry import MinerOptions
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.fleet.comparing import places
from hcp_pipelines.fleet.discovery import apply_scan, preview_scan
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.fleet.reconcile import Reconciliation
from hcp_pipelines.settings import Settings, environment_value
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

_MINERS = ("api_port", "web_port", "v3_port", "concurrency", "deadline_s")
_NODES = ("agent_port", "exporter_port", "concurrency", "deadline_s")
SHOWN = 20  # rows of a table on a terminal; --json has all


@click.command("discover")
@click.argument("ranges", nargs=-1, required=True)
@click.option("--facility", "facility_id", help="Compare what is found with this facility's inventory.")
@click.option("--apply", "is_applied", is_flag=True, help="Write the differences as a new inventory generation.")
@click.option("--concurrency", type=click.IntRange(1, 512), default=64, show_default=True, help="Closer looks at once.")
@click.option("--deadline", "deadline_s", type=Finite(0.1, 30), default=3.0, show_default=True, help="Seconds.")
@click.option("--api-port", type=click.IntRange(1, 65_535), default=4028, show_default=True)
@click.option("--web-port", type=click.IntRange(1, 65_535), default=80, show_default=True)
@click.option("--v3-port", type=click.IntRange(1, 65_535), default=4433, show_default=True)
@click.option("--agent-port", type=click.IntRange(1, 65_535), default=9401, show_default=True)
@click.option("--exporter-port", type=click.IntRange(1, 65_535), default=9400, show_default=True)
@click.option("--kind", type=click.Choice(["miners", "gpu-nodes", "all"]), default="all", show_default=True)
@click.option(
    "--authenticate",
    is_flag=True,
    help="Log on to stock Antminers anywhere in RANGES, for their MAC; else only where --facility has a miner.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@state_dir_option
@click.pass_context
def discover(
    context: click.Context,
    /,
    ranges: tuple[str, ...],
    facility_id: str | None,
    is_applied: bool,
    kind: str,
    authenticate: bool,
    as_json: bool,
    own_state_dir: Path | None,
    **options: float,
) -> None:
    """Find devices at RANGES (10.1.0.1-10.1.3.254, 10.1.0.0/22 …): who they are, and what has changed."""
    if is_applied and facility_id is None:
        raise ConfigError("--apply writes a facility's inventory: name it with --facility")
    try:
        addresses = expand(ranges)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    settings = settings_of(context, own_state_dir)
    log_on = set(addresses) if authenticate else _expected(settings, facility_id)
    with _progress() as on_progress:
        found = uvloop.run(_scan(addresses, kind, options, on_progress, log_on))
    changes, generation = None, None
    if facility_id is not None:
        with connect(settings, Role.FLEET if is_applied else Role.OPERATOR) as connection:
            if is_applied:
                result = apply_scan(connection, facility_id, found, environment_value("USER") or "operator")
                changes, generation = result.reconciliation, result.generation
            else:
                changes = preview_scan(connection, facility_id, found)
    if as_json:
        print_json(_document(found, changes, generation))
    else:
        _show(found)
        _show_changes(facility_id, changes, generation)


def _expected(settings: Settings, facility_id: str | None) -> set[str]:
    """Where a facility's inventory has devices: strangers elsewhere are shown no password."""
    if facility_id is None:
        return set()
    with connect(settings, Role.OPERATOR) as connection:
        return {address for group in load_inventory(connection, facility_id).groups for _, address in places(group)}


async def _scan(
    addresses: Sequence[str], kind: str, options: Mapping[str, float], on_progress: OnProgress, log_on: Set[str]
) -> Scan:
    """Miners first; GPU nodes where no miner answered."""
    from hcp_pipelines.devices.discovery.nodes import scan_nodes  # these bring httpx: not for every command
    from hcp_pipelines.devices.discovery.scan import scan
    from hcp_pipelines.devices.gpu_node.fleet import GpuNodeOptions

    scans, clock = list[Scan](), SystemClock()
    if kind != "gpu-nodes":
        own = MinerOptions(**{name: options[name] for name in _MINERS})  # type: ignore[arg-type]
        scans.append(await scan(addresses, own, clock, on_progress, log_on=log_on))
    if kind != "miners":
        miners = {one.address for scan in scans for one in scan.found}
        rest = [address for address in addresses if address not in miners]
        nodes = GpuNodeOptions(**{name: options[name] for name in _NODES})  # type: ignore[arg-type]
        scans.append(await scan_nodes(rest, nodes, clock, on_progress))
    return merge(scans)


@contextlib.contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar a pass on a terminal's standard error; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield on_progress


def _document(found: Scan, changes: Reconciliation | None, generation: int | None) -> dict[str, object]:
    rates = {"probes_per_s": round(found.probes_per_s, 1), "identified_per_s": round(found.identified_per_s, 1)}
    document: dict[str, object] = {"addresses": len(found.addresses), **rates}
    document |= {"found": [asdict(one) for one in found.found], "hung": found.hung, "missed": list(found.missed)}
    document["missed_because"] = dict(Counter(found.missed.values()))
    if changes is not None:
        document["changes"] = [
            {"kind": c.kind, "slot": c.slot, "address": c.found.address if c.found else c.before.address}
            for c in changes.changes
        ]
        document["conflict"] = changes.conflict
        document["unplaced"] = [one.address for one in changes.unplaced]
    return document | ({"generation": generation} if generation is not None else {})


def _show(found: Scan) -> None:
    columns = ("address", "dialect", "model", "firmware", "MAC", "serial", "boards", "problem")
    rows = [
        (f.address, f.dialect, f.model, f.firmware, f.mac, f.serial, len(f.boards) or "", f.problem)
        for f in found.found
    ]
    if rows:
        print_table("", columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        click.echo(f"… and {len(rows) - SHOWN} more; --json has all")
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(one.dialect for one in found.found).most_common())
    click.echo(
        f"{len(found.addresses)} addresses, {len(found.found)} devices ({kinds or 'none'}), {len(found.hung)} hung; "
        f"{found.probes_per_s:,.0f} addresses/s, {found.identified_per_s:,.0f} identified/s"
    )
    for why, addresses in Counter(found.missed.values()).most_common():
        example = next(address for address, reason in found.missed.items() if reason == why)
        click.echo(f"{addresses} could not be looked at from here: {why} ({example}); nothing is known of who is there")


def _show_changes(facility_id: str | None, changes: Reconciliation | None, generation: int | None) -> None:
    if changes is None:
        return
    click.echo(f"{facility_id}: {changes.summary or 'nothing changed'}")
    for change in changes.changes[:SHOWN]:
        where = f"{change.before.address} → {change.found.address}" if change.found else change.before.address
        click.echo(f"  slot {change.slot}: {change.kind} ({where})")
    if changes.conflict:
        click.echo(f"  {changes.conflict}: find out which of them is the device")
    if changes.unplaced:
        shown = ", ".join(one.address for one in changes.unplaced[:SHOWN])
        click.echo(f"  no slot for {len(changes.unplaced)} devices ({shown}): enlarge a group in the facility file")
    if generation is not None:
        click.echo(f"{facility_id}: inventory generation {generation}")


def register(group: click.Group) -> None:
    """Add the command."""
    group.add_command(discover)
