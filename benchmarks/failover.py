"""`hcp bench failover`: seconds from an owner's SIGKILL to the first wave that the other allocator has acknowledged.

Real processes on a database of their own. A tick uses up a part of every ramp's window; then one allocator is killed, a tick that
moves every facility follows at once, and the survivor has to act on it inside what its predecessor has left of the windows. The
clock is slow enough for both to fall into one window. Leases are the shipped ones, in real time. Details: docs/benchmarks.md.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.common import about, load_average, percentile, print_figures, progress, rounded, say
from benchmarks.parts.market import Market, Sent, open_market, publish_policies, until_admitted, until_row
from benchmarks.parts.stack import Stack, own_platform, running_stack
from benchmarks.parts.verdict import UNANSWERED_SQL, Verdict, judge
from benchmarks.parts.windows import Windows, check_windows, read_changes, scopes_of
from hcp_pipelines.fleet.demo import demo_facilities
from hcp_pipelines.fleet.document import FacilityFile, Ramp, Ramps
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.processes import ALLOCATORS

TARGET = "acked_max_s < 5; violations = lost = duplicated = 0"
SPEED = 30.0  # a window of 300 s is 10 s: takeovers end in the window in which they began
FULL_DEVICES, QUICK_DEVICES = 300_000, 6_000
FULL_ROUNDS, QUICK_ROUNDS = 5, 2
FULL_ROUND_S, QUICK_ROUND_S = 1200.0, 480.0  # simulated: every device has moved by then, under the ramps
SOME_ON_USD, ALL_ON_USD = 400.0, -30.0  # $/MWh: below the GPUs' strikes alone; below every strike
SOME_OFF_USD, ALL_OFF_USD = 110.0, 5000.0  # above the oldest miners' strikes alone; above every strike
ADMITTED_WITHIN_S = MOVED_WITHIN_S = 60.0
SHARED_SQL = """
    select count(*), count(distinct owner), max(held) from (
        select owner, count(*) over (partition by owner) as held from facility_leases where expires_at > now()) l"""
OWNED_SQL = "select facility_id from facility_leases where owner = %s and expires_at > now()"
ACKED_SQL = """
    select count(distinct c.facility_id) from switch_journal c
    join switch_journal a on (a.command_id, a.assignment, a.event) = (c.command_id, c.assignment, 'acked')
    where c.event = 'commanded' and c.tick_id = any(%s) and c.facility_id = any(%s) and c.owner <> %s"""
WAVES_SQL = """
    select max(leased_at), max(written_at), max(acked_at) from (
        select min(l.acquired_at) as leased_at, min(c.recorded_at) as written_at, min(a.recorded_at) as acked_at
        from switch_journal c join facility_leases l using (facility_id)
        join switch_journal a on (a.command_id, a.assignment, a.event) = (c.command_id, c.assignment, 'acked')
        where c.event = 'commanded' and c.tick_id = any(%s) and c.facility_id = any(%s) and c.owner <> %s
        group by c.facility_id) w"""


@dataclass(frozen=True)
class Takeover:
    """One kill: real seconds until the last of its facilities was leased to, journalled for and acknowledged to the survivor."""

    victim: str
    facilities: int
    leased_s: float
    journalled_s: float
    acked_s: float


@dataclass(frozen=True)
class Measured:
    """What a run leaves behind."""

    takeovers: list[Takeover]
    windows: Windows
    verdict: Verdict
    restarts: int


def documents_of(devices: int, facilities: int, factor: float) -> list[FacilityFile]:
    """The demo's facilities; their shipped ramps times a factor, so that they bind a smaller fleet as they do the full one."""

    def scaled(ramp: Ramp) -> Ramp:
        return ramp.model_copy(update={"up_mw": ramp.up_mw * factor, "down_mw": ramp.down_mw * factor})

    return [
        d.model_copy(
            update={
                "feeders": tuple(f.model_copy(update={"ramp": scaled(f.ramp)}) for f in d.feeders),
                "ramps": Ramps(facility=scaled(d.ramps.facility), portfolio=scaled(d.ramps.portfolio)),
            }
        )
        for d in demo_facilities(facilities, devices)
    ]


async def measure(settings: Settings, documents: Sequence[FacilityFile], rounds: int, round_s: float) -> Measured:
    """Start, kill so many times, stop, and read what was written."""
    async with running_stack(settings, say, documents) as stack:
        market = await open_market(settings, stack.clock, ALL_OFF_USD)
        publish_policies(settings, stack.clock.now())
        await until_admitted(settings, len(ALLOCATORS), ADMITTED_WITHIN_S)
        takeovers = []
        for number in progress(range(rounds), "kills"):
            next_at_s = stack.clock.now().timestamp() + round_s
            takeovers.append(await _round(stack, market, number))
            if number < rounds - 1:
                await _heal(stack, takeovers[-1].victim)
                await stack.clock.sleep(max(next_at_s - stack.clock.now().timestamp(), 0.0))
        await until_row(settings, UNANSWERED_SQL, (), (0,), MOVED_WITHIN_S, "commands without an answer")
        await market.connection.close()
        restarts = stack.restarts()
        stack.stop_all_but_postgres()
        return Measured(
            takeovers, check_windows(read_changes(settings), scopes_of(documents)), judge(settings), restarts
        )


async def _round(stack: Stack, market: Market, number: int) -> Takeover:
    """A part of the load moves, its owner dies, all of it should move; up and down in turn."""
    some, every = ((SOME_ON_USD, ALL_ON_USD), (SOME_OFF_USD, ALL_OFF_USD))[number % 2]
    victim = ALLOCATORS[number % len(ALLOCATORS)]
    facilities = [d.facility_id for d in stack.documents]
    await _until_acked(stack.settings, await market.correct(some), facilities)
    owned = _owned(stack.settings, victim)
    killed_at = stack.kill(victim)
    tick = await market.correct(every)
    await _until_acked(stack.settings, tick, owned, but=victim)
    return _takeover(stack.settings, victim, owned, killed_at, tick)


async def _heal(stack: Stack, victim: str) -> None:
    """Start the killed one again, until the facilities are shared out."""
    await stack.start_again(victim)
    facilities = stack.documents
    shared = (len(facilities), len(ALLOCATORS), -(-len(facilities) // len(ALLOCATORS)))
    await until_row(stack.settings, SHARED_SQL, (), shared, MOVED_WITHIN_S, "(leases, owners, the most of one)")


async def _until_acked(settings: Settings, tick: Sent, facilities: Sequence[str], but: str = "") -> None:
    """Until a wave on a tick has been acknowledged in each of some facilities, of another owner than one."""
    parameters = (list(tick.row_ids), list(facilities), but)
    what = "facilities whose gateway acknowledged a wave on the tick"
    await until_row(settings, ACKED_SQL, parameters, (len(facilities),), MOVED_WITHIN_S, what)


def _owned(settings: Settings, name: str) -> list[str]:
    with connect(settings, Role.OPERATOR) as connection:
        return [row[0] for row in connection.execute(OWNED_SQL, (name,)).fetchall()]


def _takeover(settings: Settings, victim: str, owned: list[str], killed_at: datetime, tick: Sent) -> Takeover:
    with connect(settings, Role.OPERATOR) as connection:
        row = connection.execute(WAVES_SQL, (list(tick.row_ids), owned, victim)).fetchone()
    return Takeover(victim, len(owned), *((at - killed_at).total_seconds() for at in row or ()))


def figures_of(measured: Measured, settings: Settings) -> dict[str, Any]:
    """The benchmark's object, without what every benchmark's has."""
    verdict, windows, takeovers = measured.verdict, measured.windows, measured.takeovers
    leased_s, journalled_s, acked_s = zip(*((t.leased_s, t.journalled_s, t.acked_s) for t in takeovers), strict=True)
    return {
        "devices": settings.devices,
        "facilities": settings.facilities,
        "kills": len(takeovers),
        "facilities_taken_over": sum(t.facilities for t in takeovers),
        "leased_p50_s": rounded(percentile(leased_s, 0.5)),
        "leased_max_s": rounded(max(leased_s)),
        "journalled_p50_s": rounded(percentile(journalled_s, 0.5)),
        "journalled_max_s": rounded(max(journalled_s)),
        "acked_p50_s": rounded(percentile(acked_s, 0.5)),
        "acked_max_s": rounded(max(acked_s)),
        "each_acked_s": [round(s, 2) for s in acked_s],
        "violations": len(windows.violations),
        "first_violations": windows.violations[:5],
        "windows": windows.looked_at,
        "windows_of_two_owners": windows.shared,
        "most_of_a_window": round(windows.most_fraction, 4),
        "acked": verdict.acked,
        "lost": verdict.lost + verdict.unanswered,
        "duplicated": verdict.doubled,
        "unjournalled": verdict.unjournalled,
        "restarts": measured.restarts,
        "clock_speed": settings.clock_speed,
    }


def is_right(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost, doubled or outside the ramps; how long it took is no matter of right and wrong."""
    wrong = sum(figures[key] for key in ("violations", "lost", "duplicated", "unjournalled", "restarts"))
    return not wrong and figures["windows_of_two_owners"] > 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench failover", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_DEVICES} devices, {QUICK_ROUNDS} kills, under a minute"
    )
    parser.add_argument("--devices", type=int, default=0, help=f"of the demo fleet (default {FULL_DEVICES})")
    parser.add_argument("--facilities", type=int, default=12, help="of the demo fleet (default 12)")
    parser.add_argument("--rounds", type=int, default=0, help=f"kills (default {FULL_ROUNDS})")
    parser.add_argument("--keep", type=Path, default=None, help="use and keep this state directory")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when a ramp, a switch or a process was lost."""
    arguments = _arguments()
    quick = arguments.quick
    devices = arguments.devices or (QUICK_DEVICES if quick else FULL_DEVICES)
    rounds = arguments.rounds or (QUICK_ROUNDS if quick else FULL_ROUNDS)
    factor = devices / FULL_DEVICES * (2 if quick else 1)
    began_s = time.monotonic()
    documents = documents_of(devices, arguments.facilities, factor)
    round_s = QUICK_ROUND_S if quick else FULL_ROUND_S
    with own_platform(arguments.keep, devices, arguments.facilities, SPEED) as settings:
        figures = figures_of(asyncio.run(measure(settings, documents, rounds, round_s)), settings)
    figures |= about(quick=quick, target=TARGET, began_s=began_s) | {"load_average": load_average()}
    print_figures(figures, as_json=arguments.json)
    return 0 if is_right(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
