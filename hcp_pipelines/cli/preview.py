"""`hcp preview …`: what an order or a policy would do, in devices, MW, $/h, and by when, without doing it."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.allocator import preview as previewing
from hcp_pipelines.allocator.owner import RESTING
from hcp_pipelines.allocator.preview import Preview, Situation
from hcp_pipelines.allocator.preview_load import load_policy
from hcp_pipelines.allocator.standing import Lockout, timed_of
from hcp_pipelines.cli.common import print_json, print_table, settings_of, state_dir_option
from hcp_pipelines.cli.locks import locking, refuse_unclear
from hcp_pipelines.cli.orders import curtailing, limit_mw, override_of, overriding
from hcp_pipelines.cli.situation import situation_of
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories
from hcp_pipelines.operators import building
from hcp_pipelines.operators.orders import Order
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect, reading
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.wire.slots import encode_slots

Command = Callable[..., Any]
Change = Callable[[FacilityInventory, Situation], Situation]
WHY = "preview"
MOST_LINES = 8


def previewed(command: Command) -> Command:
    """The options of all previews."""
    for option in (
        click.pass_context,
        state_dir_option,
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
    ):
        command = option(command)
    return command


@click.group("preview")
def preview() -> None:
    """What an order or a policy would do at today's prices, without doing it."""


@preview.command("lock")
@click.argument("facility")
@locking
@previewed
def lock(
    context: click.Context,
    facility: str,
    devices: tuple[str, ...],
    feeder: str | None,
    site: bool,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """A lock of devices of FACILITY."""
    refuse_unclear(devices, feeder, site)

    def change(inventory: FacilityInventory, situation: Situation) -> Situation:
        slots = encode_slots(building.slots_of(inventory, devices)) if devices else b""
        scope = "device" if devices else "feeder" if feeder is not None else "site"
        checked = building.feeder_of(inventory, feeder) if feeder is not None else ""
        return previewing.with_lock(situation, Lockout(0, WHY, WHY, scope, checked, slots))

    _show([_preview(settings_of(context, own_state_dir), facility, change)], as_json)


@preview.command("stop-all")
@click.argument("facilities", nargs=-1)
@previewed
def stop_all(context: click.Context, facilities: tuple[str, ...], as_json: bool, own_state_dir: Path | None) -> None:
    """A stop of FACILITIES, of all if none is named."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        names = facilities or [i.facility_id for i in load_inventories(connection)]
    _show([_preview(settings, name, lambda i, s: _ordered(s, building.stop(i, WHY, s.now))) for name in names], as_json)


@preview.command("override")
@click.argument("facility")
@overriding
@previewed
def override(context: click.Context, facility: str, as_json: bool, own_state_dir: Path | None, **what: Any) -> None:
    """An override of FACILITY."""
    settings = settings_of(context, own_state_dir)
    _show([_preview(settings, facility, lambda i, s: _ordered(s, override_of(i, WHY, s.now, None, **what)))], as_json)


@preview.command("curtail")
@click.argument("facility")
@curtailing
@previewed
def curtail(
    context: click.Context,
    facility: str,
    mw: float | None,
    to_mw: float | None,
    within: float | None,
    as_json: bool,
    own_state_dir: Path | None,
) -> None:
    """A curtailment of FACILITY."""
    settings = settings_of(context, own_state_dir)
    with connect(settings, Role.OPERATOR) as connection:
        cap_mw = limit_mw(settings, connection, facility, mw, to_mw)
    _show(
        [
            _preview(
                settings, facility, lambda i, s: _ordered(s, building.curtailment(i, cap_mw, WHY, s.now, None, within))
            )
        ],
        as_json,
    )


@preview.command("policy")
@click.argument("policy_id", type=int)
@previewed
def policy(context: click.Context, policy_id: int, as_json: bool, own_state_dir: Path | None) -> None:
    """The published policy POLICY_ID (`hcp policy show` names them), refused and waiting ones too."""
    settings = settings_of(context, own_state_dir)
    facility_id, in_force = asyncio.run(_policy(settings, policy_id))
    _show([_preview(settings, facility_id, lambda _, s: previewing.with_policy(s, in_force))], as_json)


async def _policy(settings: Settings, policy_id: int) -> Any:
    async with reading(settings, Role.OPERATOR) as connection:
        return await load_policy(connection, policy_id)


def _ordered(situation: Situation, order: Order) -> Situation:
    """The situation with an order that stands."""
    row = (0, order.kind, order.scope, order.value, WHY, order.reason, order.valid_from, order.valid_until)
    return previewing.with_order(situation, timed_of(row))


def _preview(settings: Settings, facility_id: str, change: Change) -> Preview:
    """What a change would do at a facility."""
    inventory, situation = situation_of(settings, facility_id)
    return previewing.preview(change(inventory, situation))


def _show(found: list[Preview], as_json: bool) -> None:
    if as_json:
        print_json({"previews": [asdict(one) for one in found]})
        return
    for one in found:
        _print(one)


def _print(one: Preview) -> None:
    rows = [(g.group_id, _mix(g.now), _mix(g.then)) for g in one.groups]
    title = f"{one.facility_id}: {one.devices} devices change, in {one.waves} waves ({', '.join(one.reasons) or 'nothing to do'})"
    print_table(title, ("group", "now", "then"), rows)
    money = (
        ""
        if one.usd_per_hour_now is None or one.usd_per_hour_then is None
        else (f"; {one.usd_per_hour_now:.2f} → {one.usd_per_hour_then:.2f} $/h at today's prices")
    )
    click.echo(f"{one.mw_now:.3f} → {one.mw_then:.3f} MW at the meter{money}")
    step = max(-(-len(one.reached) // MOST_LINES), 1)
    for reached in [*one.reached[:-1:step], *one.reached[-1:]]:
        click.echo(f"  within {reached.after_s:.0f} s (simulated): {reached.mw:.3f} MW")
    if not one.is_complete:
        click.echo(f"  not all of it within {previewing.HORIZON_S / 60:.0f} minutes: ramps or dwell limits")
    if one.resting:
        click.echo(f"  {one.resting} devices rest meanwhile: {RESTING}")
    for text in (*one.unmet, *one.broken):
        click.echo(f"  {text}")


def _mix(counts: dict[str, int]) -> str:
    return ", ".join(f"{label} {devices}" for label, devices in counts.items()) or "–"


def register(group: click.Group) -> None:
    """Add the commands."""
    group.add_command(preview)
