"""`hcp stop-all|override|curtail|drain`: what operators order. Locks and the end of orders are in `cli.locks`."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import click
import psycopg

from hcp_pipelines.cli.acting import Acting, Asked, Watch, end_of, ending, finish, ordering
from hcp_pipelines.cli.common import Finite, settings_of
from hcp_pipelines.cli.direct import send_orders, tell
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.domain.modes import DeviceState
from hcp_pipelines.fleet.inventory import FacilityInventory, load_inventories, load_inventory
from hcp_pipelines.operators import building, orders
from hcp_pipelines.operators.orders import Order
from hcp_pipelines.operators.progress import Reached, are_down, are_in, is_below, meter_mw, newest_row, read_gateway
from hcp_pipelines.settings import Settings

STATES = click.Choice([s.label for s in DeviceState])
DRAIN_LASTS = timedelta(hours=12)  # where the operator says nothing else
Command = Callable[..., Any]


def overriding(command: Command) -> Command:
    """Which devices shall do what."""
    for option in (
        click.option("--mw", type=Finite(min=0, min_open=True), help="As many as draw so much at full load."),
        click.option("--devices", type=click.IntRange(min=1), help="So many of them, at least.  [default: all]"),
        click.option("--state", type=STATES, required=True, help="What its devices shall do."),
        click.option("--group", required=True, help="Which group."),
    ):
        command = option(command)
    return command


def curtailing(command: Command) -> Command:
    """How far, and how soon."""
    for option in (
        click.option("--within", type=Finite(min=1), help="Seconds to do it in: what settles by then goes first."),
        click.option("--to", "to_mw", type=Finite(min=0), help="To so many MW at the meter."),
        click.option("--mw", type=Finite(min=0, min_open=True), help="By so many MW, from what it shows now."),
    ):
        command = option(command)
    return command


@click.command("stop-all")
@click.argument("facilities", nargs=-1)
@ordering
def stop_all(asked: Asked, facilities: tuple[str, ...]) -> None:
    """Bring everything of FACILITIES (of all, if none is named) to its lowest state at once, until it is released."""
    with asked.acting() as act:
        found = named(act, facilities)
        _place(act, asked, [(building.stop(i, asked.reason, act.now()), are_down(i)) for i in found])


@click.command("override")
@click.argument("facility")
@overriding
@ending
@ordering
def override(asked: Asked, facility: str, until: datetime | None, lasts: timedelta | None, **what: Any) -> None:
    """Have devices of FACILITY do something whatever the policy wants, under the ramps, for a time."""
    with asked.acting() as act:
        inventory, now = load_inventory(act.connection, facility), act.now()
        order = override_of(inventory, asked.reason, now, end_of(now, until, lasts), **what)
        state = DeviceState[order.value["state"].upper()]
        _place(act, asked, [(order, are_in(inventory, order.scope["group_id"], state, order.value["devices"]))])


@click.command("curtail")
@click.argument("facility")
@curtailing
@click.option("--direct", is_flag=True, help="Tell its gateway, without Postgres and allocator; holds until released.")
@ending
@ordering
def curtail(
    asked: Asked,
    facility: str,
    direct: bool,
    mw: float | None,
    to_mw: float | None,
    within: float | None,
    until: datetime | None,
    lasts: timedelta | None,
) -> None:
    """Reduce the load of FACILITY at once: what costs the least $/h first. Without an end it holds until released."""
    if direct:
        if until or lasts or within or asked.wait:
            raise ConfigError("--direct goes with --mw, --to, --as and --reason only; `hcp release` ends it")
        curtail_directly(asked, facility, mw, to_mw)
        return
    with asked.acting() as act:
        inventory, now = load_inventory(act.connection, facility), act.now()
        cap_mw = limit_mw(act.settings, act.connection, facility, mw, to_mw)
        order = building.curtailment(inventory, cap_mw, asked.reason, now, end_of(now, until, lasts), within)
        _place(act, asked, [(order, is_below(inventory, cap_mw))])


@click.command("drain")
@click.argument("facilities", nargs=-1)
@ending
@ordering
def drain(asked: Asked, facilities: tuple[str, ...], until: datetime | None, lasts: timedelta | None) -> None:
    """Bring FACILITIES (all, if none is named) to their fallback plans under the ramps; for 12 h, if no end is given.

    What to do before `hcp down`, which leaves the hardware as it is.
    """
    with asked.acting() as act:
        now = act.now()
        ends_at = end_of(now, until, lasts) or now + DRAIN_LASTS
        pairs = [
            (order, are_in(inventory, order.scope["group_id"], DeviceState[order.value["state"].upper()], None))
            for inventory in named(act, facilities)
            for order in building.drain(inventory, asked.reason, now, ends_at)
        ]
        _place(act, asked, pairs)


def override_of(
    inventory: FacilityInventory,
    reason: str,
    now: datetime,
    until: datetime | None,
    *,
    group: str,
    state: str,
    devices: int | None,
    mw: float | None,
) -> Order:
    """The override that the options of `overriding` mean."""
    if devices is not None and mw is not None:
        raise ConfigError("--devices and --mw: one of them")
    return building.override(inventory, group, DeviceState[state.upper()], reason, now, until, devices=devices, mw=mw)


def limit_mw(
    settings: Settings, connection: psycopg.Connection[Any], facility: str, by_mw: float | None, to_mw: float | None
) -> float:
    """The limit at the meter that `--mw` (by) or `--to` means; the meter is read for the former."""
    if (by_mw is None) == (to_mw is None):
        raise ConfigError("how far? --mw N (by) or --to N (level), MW at the meter")
    if to_mw is not None:
        return to_mw
    return max(meter_mw(read_gateway(settings, connection, facility)) - (by_mw or 0.0), 0.0)


def curtail_directly(asked: Asked, facility: str, by_mw: float | None, to_mw: float | None) -> None:
    """The same order to the facility's gateway."""
    if (by_mw is None) == (to_mw is None):
        raise ConfigError("how far? --mw N (by) or --to N (level), MW at the meter")
    limit = {"to_kw": to_mw * 1000} if to_mw is not None else {"by_kw": (by_mw or 0.0) * 1000}
    settings = settings_of(asked.context, asked.own_state_dir)
    tell(send_orders(settings, asked.operator, asked.reason, [facility], **limit), as_json=asked.as_json)


def named(act: Acting, facilities: Sequence[str]) -> list[FacilityInventory]:
    """The facilities of those names, or all."""
    found = load_inventories(act.connection, facilities or None)
    missing = set(facilities) - {i.facility_id for i in found}
    if missing or not found:
        raise ConfigError(f"no facility {min(missing, default='')!r}; `hcp facility list` shows those there are")
    return found


def _place(act: Acting, asked: Asked, pairs: Sequence[tuple[Order, Reached]]) -> None:
    """Put orders in the books, all or none, and wait for them if asked to."""
    for facility_id in {order.facility_id for order, _ in pairs}:
        orders.require(act.connection, act.operator, pairs[0][0].kind, facility_id)
    with act.connection.transaction():
        after = {order.facility_id: newest_row(act.connection, order.facility_id) for order, _ in pairs}
        placed = orders.place(act.connection, act.operator, [order for order, _ in pairs])
    watches = [Watch(p, reached, after[p.facility_id]) for p, (_, reached) in zip(placed, pairs, strict=True)]
    finish(act, asked, watches)


def register(group: click.Group) -> None:
    """Add the commands."""
    for command in (stop_all, override, curtail, drain):
        group.add_command(command)
