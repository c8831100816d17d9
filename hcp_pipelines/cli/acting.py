"""What commands that order share: who orders, when it holds, waiting until it is done, telling what was done."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import psycopg

from hcp_pipelines.cli.common import Finite, duration, instant, print_json, settings_of, state_dir_option
from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.errors import ConfigError, HcpError
from hcp_pipelines.operators.accounts import Operator, authenticate, read_token
from hcp_pipelines.operators.orders import Placed
from hcp_pipelines.operators.progress import Progress, Reached, meter_mw, progress_of, read_gateway
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.status import world_clock

LOOK_EACH_S = 0.5
REASON_MAX = 300
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Acting:
    """An operator at work: open connection, the platform's clock, their proven name."""

    settings: Settings
    connection: psycopg.Connection[Any]
    clock: SystemClock
    operator: Operator

    def now(self) -> datetime:
        """Simulated."""
        return self.clock.now()


@dataclass(frozen=True)
class Watch:
    """An order, and how to tell from the gateway's words that it is done; the journal counts for it from a row on."""

    placed: Placed
    reached: Reached
    after: int = 0


@dataclass(frozen=True)
class Asked:
    """The options that all commands share that order."""

    context: click.Context
    operator: str | None
    reason: str
    wait: bool
    timeout: float
    as_json: bool
    own_state_dir: Path | None

    def acting(self) -> "contextlib.AbstractContextManager[Acting]":
        """Who orders, verified."""
        return acting(self.context, self.own_state_dir, self.operator)


@contextlib.contextmanager
def acting(context: click.Context, own_state_dir: Path | None, name: str | None) -> Iterator[Acting]:
    """The operator named by `--as` or HCP_OPERATOR, whose token was verified.

    Raises:
        ConfigError: nobody is named, or there is no token.
        NotPermittedError: the token is not theirs.
    """
    settings = settings_of(context, own_state_dir)
    chosen = name or settings.operator
    if not chosen:
        raise ConfigError(
            "who orders this? `hcp operator add NAME --role operator` makes an operator, then `--as NAME` or HCP_OPERATOR=NAME"
        )
    with connect(settings, Role.OPERATOR) as connection:
        operator = authenticate(connection, chosen, read_token(settings, chosen))
        yield Acting(settings, connection, world_clock(settings), operator)


def ordering(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of all that order; it gets them as one `Asked`, before its own."""
    shared = [f.name for f in fields(Asked) if f.name != "context"]

    @functools.wraps(command)
    @click.pass_context
    def run(context: click.Context, /, **options: Any) -> None:
        command(Asked(context, **{name: options.pop(name) for name in shared}), **options)

    for option in (
        state_dir_option,
        click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        click.option("--timeout", type=Finite(min=1), default=300.0, help="Seconds to wait.  [default: 300]"),
        click.option("--wait", is_flag=True, help="Return when it is done, judged by the devices' own power."),
        as_option,
        click.option("--reason", required=True, callback=line_of_text, help="Why; kept in journal and audit log."),
    ):
        run = option(run)
    return run


def line_of_text(_: click.Context, parameter: click.Parameter, value: str) -> str:
    """A reason as it is kept: one line, not empty but by default, bounded."""
    text = value.strip()
    if text == parameter.default:
        return text
    if not text or len(text) > REASON_MAX or not text.isprintable():
        raise click.BadParameter(f"1 to {REASON_MAX} printable characters, in one line; these are {len(text)}")
    return text


def as_option(command: Command) -> Command:
    """`--as NAME`."""
    return click.option("--as", "operator", metavar="NAME", help="Who orders.  [default: HCP_OPERATOR]")(command)


def ending(command: Command) -> Command:
    """`--until T` and `--for 2h`."""
    for option in (
        click.option("--for", "lasts", callback=duration, metavar="2h", help="So long (90s, 30m, 2h, 1d), simulated."),
        click.option("--until", callback=instant, metavar="T", help="Until then, simulated (UTC)."),
    ):
        command = option(command)
    return command


def end_of(now: datetime, until: datetime | None, lasts: timedelta | None) -> datetime | None:
    """When an order ends; None where neither is given.

    Raises:
        ConfigError: both are.
    """
    if until is not None and lasts is not None:
        raise ConfigError("--until and --for: one of them")
    return now + lasts if lasts is not None else until


def tell(placed: Sequence[Placed], text: str, *, as_json: bool, **more: object) -> None:
    """Say what was ordered."""
    if as_json:
        print_json({"orders": [asdict(p) for p in placed], **more})
        return
    for one in placed:
        waits = f"waits for a second person: `hcp approve {one.approval_id}`" if one.approval_id is not None else text
        click.echo(f"{one.facility_id}: {one.name} {waits}")


def finish(act: Acting, asked: Asked, watches: Sequence[Watch]) -> None:
    """Say what was ordered, and wait for it if asked to; what waits for a second person is not waited for."""
    placed = [watch.placed for watch in watches]
    done: dict[str, Any] = {}
    if not asked.as_json:
        tell(placed, "stands", as_json=False)
    if asked.wait:
        done = follow(act, [w for w in watches if w.placed.approval_id is None], asked.timeout, as_json=asked.as_json)
    if asked.as_json:
        tell(placed, "stands", as_json=True, done=done)
    for name, one in done.items() if not asked.as_json else ():
        click.echo(f"{name}: done, {one['meter_mw']:.2f} MW at the meter")


def follow(act: Acting, watches: Sequence[Watch], timeout_s: float, *, as_json: bool) -> dict[str, Any]:
    """Wait until every order is carried out, showing how far each is; what was reached, by order.

    Raises:
        HcpError: not within the time.
    """
    deadline_s, said = act.clock.monotonic_s() + timeout_s, dict[str, Progress]()
    left, done = list(watches), dict[str, Any]()
    while True:
        for watch in list(left):
            state = read_gateway(act.settings, act.connection, watch.placed.facility_id)
            progress = progress_of(act.connection, watch.placed.facility_id, watch.placed.name, watch.after)
            _show(watch, progress, meter_mw(state), said, is_quiet=as_json)
            if progress.is_judged and watch.reached(state):
                left.remove(watch)
                done[watch.placed.name] = {"meter_mw": round(meter_mw(state), 6), **asdict(progress)}
        if not left:
            return done
        if act.clock.monotonic_s() > deadline_s:
            names = ", ".join(f"{w.placed.facility_id}: {w.placed.name}" for w in left)
            raise HcpError(f"not carried out within {timeout_s:g} s: {names}. It stands; `hcp directives` shows it")
        time.sleep(LOOK_EACH_S)


def _show(watch: Watch, progress: Progress, mw: float, said: dict[str, Progress], *, is_quiet: bool) -> None:
    """A line on standard error whenever something has changed."""
    if is_quiet or said.get(watch.placed.name) == progress:
        return
    said[watch.placed.name] = progress
    click.echo(
        f"{watch.placed.facility_id}: {watch.placed.name}: devices commanded {progress.commanded}, acked {progress.acked}, "
        f"settled {progress.settled}, not in time {progress.failed}; {mw:.2f} MW at the meter",
        err=True,
    )
