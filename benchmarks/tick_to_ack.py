"""`hcp bench tick-to-ack`: milliseconds from a price tick's commit to the first wave's ack at every affected gateway.

Real processes on a database of their own: world, gateways, two allocators. The clock runs so fast that each tick is one
5-minute interval, so that the shipped ramps apply and refill; policies are solved once and outlive the run. Where the time
is counted from and to, and what the figures mean: docs/benchmarks.md.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import about, machine_busy_s, percentile, print_figures, progress, rounded, say
from benchmarks.parts import latencies
from benchmarks.parts.market import SEED, Market, open_market, price_path, publish_policies, until_admitted
from benchmarks.parts.stack import Stack, own_platform, running_stack
from benchmarks.parts.verdict import Verdict, judge
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.processes import ALLOCATORS

TARGET = "p95_ms < 25, p99_ms < 100 (promised: p95_ms < 100) at 300,000 devices in 12 facilities; lost = duplicated = 0"
SPACING_S = 0.26  # real, between two ticks; no whole part of the 0.5 s between power samples, so that their phases pass
INTERVAL_S = 300.0  # simulated
WARM_UP_TICKS = 12
ADMITTED_WITHIN_S = 60.0
SETTLED_WITHIN_S = 20.0
FULL_TICKS, QUICK_TICKS = 500, 50
UNSETTLED_SQL = """
    select count(*) from switch_journal c where c.event = 'commanded' and not exists (
        select from switch_journal o where o.command_id = c.command_id and o.assignment = c.assignment
        and (o.event in ('settled', 'expired') or (o.event = 'acked' and o.devices = 0)))"""


@dataclass(frozen=True)
class Measured:
    """What a run leaves behind."""

    ticks: latencies.Ticks
    verdict: Verdict
    source_to_commit_ms: list[float]
    about: dict[str, Any]


async def measure(settings: Settings, ticks: int) -> Measured:
    """Start, warm up, send the ticks, wait until everything has settled, stop, and read what was written."""
    async with running_stack(settings, say) as stack:
        about = _durability(settings)
        market = await open_market(settings, stack.clock)
        publish_policies(settings, stack.clock.now())
        await until_admitted(settings, len(ALLOCATORS), ADMITTED_WITHIN_S)
        market.skip_to_now()
        await _send(market, price_path(WARM_UP_TICKS, len(market.points), SEED + 1).tolist(), "warming up")
        market.sent.clear()
        before = _Used.now(stack)
        await _send(market, price_path(ticks, len(market.points)).tolist(), "ticks")
        about |= _use(stack, before, _Used.now(stack))
        await _until_settled(settings)
        await market.connection.close()
        about["restarts"] = stack.restarts()
        stack.stop_all_but_postgres()
        say("judging")
        found = latencies.read_ticks(settings, market.sent)
        return Measured(found, judge(settings), [s.source_to_commit_ms for s in market.sent], about)


async def _send(market: Market, path: list[list[float]], label: str) -> None:
    for number in progress(range(len(path)), label):
        await market.tick(number, path[number])


def _durability(settings: Settings) -> dict[str, Any]:
    with connect(settings, Role.OPERATOR) as connection:
        names = ("fsync", "synchronous_commit")
        rows = [connection.execute("select current_setting(%s)", (name,)).fetchone() for name in names]
    return {name: row[0] for name, row in zip(names, rows, strict=True) if row}


@dataclass(frozen=True)
class _Used:
    """CPU seconds up to an instant: by process, of this one, and of the whole machine."""

    at_s: float
    by_process: dict[str, float]
    own_s: float
    machine_s: float

    @classmethod
    def now(cls, stack: Stack) -> "_Used":
        return cls(time.monotonic(), stack.cpu_s(), time.process_time(), machine_busy_s())


def _use(stack: Stack, before: _Used, after: _Used) -> dict[str, Any]:
    """Memory at the end; CPU seconds during the measured ticks of each process, and of whatever else ran on the machine."""
    memory_mb = stack.pss_mb([*ALLOCATORS, *stack.gateways])
    used_s = {name: after.by_process[name] - before.by_process.get(name, 0.0) for name in after.by_process}
    used_s["bench"] = after.own_s - before.own_s
    others_s = after.machine_s - before.machine_s - sum(used_s.values())
    return {
        "rss_mb": round(sum(memory_mb.values()), 1),
        "rss_mb_by_process": memory_mb,
        "cpu_s": {name: round(seconds, 2) for name, seconds in used_s.items()},
        "others_cpu_s": round(max(others_s, 0.0), 1),
        "ticking_s": round(after.at_s - before.at_s, 1),
    }


async def _until_settled(settings: Settings) -> None:
    """Until every command is answered and judged by the devices' own power; what never is shows in the verdict."""
    deadline_s = time.monotonic() + SETTLED_WITHIN_S
    with connect(settings, Role.OPERATOR) as connection:
        while time.monotonic() < deadline_s:
            await asyncio.sleep(0.5)
            row = connection.execute(UNSETTLED_SQL).fetchone()
            if row == (0,):
                return


def figures_of(measured: Measured, settings: Settings) -> dict[str, Any]:
    """The benchmark's object, without what every benchmark's has."""
    verdict = measured.verdict
    return {
        "devices": settings.devices,
        "facilities": settings.facilities,
        "ticks": measured.ticks.measured,
        **latencies.summary(measured.ticks),
        "source_to_commit_ms": rounded(percentile(measured.source_to_commit_ms, 0.95)),
        "acked": verdict.acked,
        "lost": verdict.lost + verdict.unanswered,
        "duplicated": verdict.doubled,
        "unjournalled": verdict.unjournalled,
        "commands": verdict.commands,
        "gateways": min(settings.gateways, settings.facilities),
        "seed": SEED,
        "spacing_ms": round(SPACING_S * 1000),
        **measured.about,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench tick-to-ack", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TICKS} ticks, under a minute")
    parser.add_argument("--devices", type=int, default=300_000, help="devices of the demo fleet (default 300000)")
    parser.add_argument("--facilities", type=int, default=12, help="facilities of the demo fleet (default 12)")
    parser.add_argument(
        "--ticks", type=int, default=0, help=f"measured ticks (default {FULL_TICKS}, quick {QUICK_TICKS})"
    )
    parser.add_argument("--keep", type=Path, default=None, help="use and keep this state directory")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when a switch was lost or doubled, or a process died."""
    arguments = _arguments()
    ticks = arguments.ticks or (QUICK_TICKS if arguments.quick else FULL_TICKS)
    began_s = time.monotonic()
    with own_platform(arguments.keep, arguments.devices, arguments.facilities, INTERVAL_S / SPACING_S) as settings:
        figures = figures_of(asyncio.run(measure(settings, ticks)), settings)
    figures |= about(quick=arguments.quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=arguments.json)
    wrong = figures["lost"] + figures["duplicated"] + figures["unjournalled"] + figures["restarts"]
    return 1 if wrong or not figures["moved_ticks"] else 0


if __name__ == "__main__":
    sys.exit(main())
