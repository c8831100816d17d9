"""`hcp lock|unlock|release|approve`: locks, the end of orders, and decisions on what somebody else asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from hcp_pipelines.cli.acting import Asked, Watch, acting, as_option, finish, line_of_text, ordering, tell
from hcp_pipelines.cli.common import number_of, state_dir_option
from hcp_pipelines.cli.direct import Answer, end_direct_orders, holding
from hcp_pipelines.domain.errors import ConfigError, HcpError
from hcp_pipelines.fleet.inventory import load_inventory
from hcp_pipelines.operators import approvals, building, orders
from hcp_pipelines.operators.orders import Placed
from hcp_pipelines.operators.progress import are_locked, newest_row
from hcp_pipelines.wire.slots import encode_slots

Command = Callable[..., Any]
DIRECT = "direct/"
LOCKOUT = "lockout"


def locking(command: Command) -> Command:
    """Which devices."""
    for option in (
        click.option("--site", is_flag=True, help="All devices of the facility."),
        click.option("--feeder", help="All devices of a feeder."),
        click.option(
            "--device", "devices", multiple=True, metavar="SLOTS", help="Slots: 7, 10-19 or 3,5,8-9; repeatable."
        ),
    ):
        command = option(command)
    return command


@click.command("lock")
@click.argument("facility")
@locking
@ordering
def lock(asked: Asked, facility: str, devices: tuple[str, ...], feeder: str | None, site: bool) -> None:
    """Lock out devices of FACILITY: they go to their lowest state, and nothing energises them until you unlock them."""
    refuse_unclear(devices, feeder, site)
    with asked.acting() as act:
        inventory = load_inventory(act.connection, facility)
        slots = building.slots_of(inventory, devices) if devices else None
        checked = building.feeder_of(inventory, feeder) if feeder is not None else None
        bitmap, after = encode_slots(slots) if slots is not None else None, newest_row(act.connection, facility)
        placed = orders.lock(act.connection, act.operator, facility, asked.reason, slots=bitmap, feeder_id=checked)
        finish(act, asked, [Watch(placed, are_locked(inventory, slots, checked or ""), after)])


@click.command("unlock")
@click.argument("lockout")
@as_option
@state_dir_option
@click.pass_context
def unlock(context: click.Context, lockout: str, operator: str | None, own_state_dir: Path | None) -> None:
    """Remove LOCKOUT (`7` or `lockout/7`): its holder does, or an admin."""
    with acting(context, own_state_dir, operator) as act:
        tell([orders.unlock(act.connection, act.operator, _number_of_lockout(lockout))], "removed", as_json=False)


@click.command("release")
@click.argument("ids", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of them; locks stay.")
@click.option("--reason", default="released", callback=line_of_text, help="Kept in audit log and gateways' logs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@as_option
@state_dir_option
@click.pass_context
def release(
    context: click.Context,
    ids: tuple[str, ...],
    everything: bool,
    reason: str,
    as_json: bool,
    operator: str | None,
    own_state_dir: Path | None,
) -> None:
    """End orders (`7` or `curtail/7`), direct ones at gateways too (`direct/hou-1`); the load comes back under the ramps."""
    if bool(ids) == everything:
        raise ConfigError("what is to be released? Ids (`hcp directives` shows them), or --all")
    with acting(context, own_state_dir, operator) as act:
        direct = [text.removeprefix(DIRECT) for text in ids if text.startswith(DIRECT)]
        numbers = None if everything else dict(_number(text) for text in ids if not text.startswith(DIRECT))
        held = holding(act.settings, act.connection, None if everything else direct)
        released = orders.release(act.connection, act.operator, act.now(), numbers, reason)
        answers = end_direct_orders(act.settings, act.operator.name, reason, held)
    ended = [*released, *((f"{DIRECT}{a.facility_id}", a.facility_id) for a in answers if not a.problem)]
    if not ended and not as_json:
        click.echo("nothing stood")
    tell([Placed(name, facility_id) for name, facility_id in ended], "released", as_json=as_json)
    refuse_half_done(answers)


@click.command("approve")
@click.argument("approval", type=int)
@click.option("--reject", is_flag=True, help="Say no instead.")
@click.option("--reason", default="", callback=line_of_text, help="Kept with the decision.")
@as_option
@state_dir_option
@click.pass_context
def approve(
    context: click.Context, approval: int, reject: bool, reason: str, operator: str | None, own_state_dir: Path | None
) -> None:
    """Approve what somebody else asked for (`hcp directives` shows what waits)."""
    with acting(context, own_state_dir, operator) as act:
        subject = approvals.decide(act.connection, act.operator, approval, reason, act.now(), is_approved=not reject)
    click.echo(f"{subject}: {'rejected' if reject else 'approved'}")


def refuse_half_done(answers: Sequence[Answer]) -> None:
    """Gateways that did not end their direct orders are an error."""
    left = [f"{a.facility_id} ({a.problem})" for a in answers if a.problem]
    if left:
        raise HcpError(
            f"direct orders may still hold at {', '.join(left)}: `hcp release --all` again; the rest is released"
        )


def refuse_unclear(devices: tuple[str, ...], feeder: str | None, site: bool) -> None:
    """One of the options of `locking` has to be there, and only one."""
    if (bool(devices), feeder is not None, site).count(True) != 1:
        raise ConfigError("what is to be locked? One of --device SLOTS, --feeder ID, --site")


def _number_of_lockout(text: str) -> int:
    number, kind = _number(text)
    if kind not in ("", LOCKOUT):
        raise ConfigError(f"{text!r} is no lockout, and nothing was unlocked: `hcp release` ends orders")
    return number


def _number(text: str) -> tuple[int, str]:
    """The number of an id, and the kind that was named with it."""
    kind, _, tail = text.rpartition("/")
    return number_of(text, tail, "id like 7 or curtail/7", "hcp directives"), kind


def register(group: click.Group) -> None:
    """Add the commands."""
    for command in (lock, unlock, release, approve):
        group.add_command(command)
