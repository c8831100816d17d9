"""`hcp bench curtail`: seconds from `hcp curtail` typed by an operator until the simulated revenue meter shows it.

Real processes on a database of their own, at clock speed 1: real seconds are simulated ones. A low price brings every facility to
its load; then fast-sleeping miners, a mixed facility within so many seconds, a mixed one wholly, and, with Postgres stopped, fast
ones by `--direct`. What each case asks for and what the figures mean: docs/benchmarks.md.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, about, load_average, print_figures, rounded, say
from benchmarks.parts.market import open_market, publish_policies, until_admitted, until_row
from benchmarks.parts.stack import Stack, own_platform, running_stack
from benchmarks.parts.verdict import UNANSWERED_SQL, Verdict, judge
from hcp_pipelines.devices.bulk.device import BulkSite
from hcp_pipelines.fleet.demo import PUE, demo_facilities
from hcp_pipelines.fleet.document import FacilityFile, Feeder, Ramp, Ramps
from hcp_pipelines.fleet.groups import Group
from hcp_pipelines.operators.accounts import OperatorRole, add
from hcp_pipelines.settings import Settings, child_environment
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role
from hcp_pipelines.supervisor.configuration import bulk_socket
from hcp_pipelines.supervisor.processes import ALLOCATORS

TARGET = "fast_95 and direct_95 <= 10 s, mixed_30 <= 30 s, mixed_95 <= 180 s at the meter; lost = duplicated = 0"
REAL_TIME = 1.0  # the clock's speed
FULL_DEVICES, QUICK_DEVICES = 25_000, 1_000  # of each facility
ALL_ON_USD = -30.0  # $/MWh: below every strike
RAMP_MW = 1000.0  # in 300 s: everything comes back at once, so that no case waits for the one before
FULL_LOAD, QUICK_LOAD = (
    0.98,
    0.7,
)  # of all devices' power; stock firmware wakes within four minutes, which `--quick` has not
ASKS_FOR = 0.998  # of the limit: devices of one model differ by a little, and the meter has to show the limit itself
ADMITTED_WITHIN_S = 60.0
LOADED_WITHIN_S = BACK_WITHIN_S = 400.0
SHOWN_WITHIN_S = 300.0
LOOK_EACH_S = 0.05
OPERATOR = "bench"
DEVICES_SQL = """
    select coalesce(sum(devices), 0)::bigint from switch_journal
    where facility_id = %s and event = 'commanded' and reason = 'operator_curtailment'"""


@dataclass(frozen=True)
class Case:
    """What is asked of a facility: so much of its load to go, and in which time."""

    name: str
    facility_id: str
    share: float
    target_s: float
    options: tuple[str, ...] = ()


FAST_95 = Case("fast_95", "fast-1", 0.95, 10.0, ("--within", "10"))
MIXED_30 = Case("mixed_30", "nor-1", 0.30, 30.0, ("--within", "30"))
MIXED_95 = Case("mixed_95", "hou-1", 0.95, 180.0)
DIRECT_95 = Case("direct_95", "fast-2", 0.95, 10.0, ("--direct",))
BY_OWNERS = (FAST_95, MIXED_30, MIXED_95)


@dataclass
class Curtailed:
    """What came of a case: seconds from the command's start until the meter showed it (None: never), and until it returned."""

    case: Case
    before_mw: float
    seconds: float | None
    command_s: float
    after_mw: float
    devices: int
    order: str = ""
    back_s: float | None = None

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "seconds": None if self.seconds is None else round(self.seconds, 2),
            "command_s": round(self.command_s, 2),
            "mw_before": round(self.before_mw, 3),
            "mw_after": round(self.after_mw, 3),
            "devices": self.devices,
            "back_s": None if self.back_s is None else rounded(self.back_s, 1),
            "target_s": self.case.target_s,
        }


def documents_of(devices: int) -> list[FacilityFile]:
    """Two facilities of fast-sleeping miners and two of the demo's mix, of so many devices each; ramps that don't bind."""
    return [_fast(c.facility_id, devices) for c in (FAST_95, DIRECT_95)] + [
        d.model_copy(
            update={"feeders": tuple(f.model_copy(update={"ramp": _ramp()}) for f in d.feeders), "ramps": _ramps()}
        )
        for d in demo_facilities(2, 2 * devices)
    ]


def _fast(facility_id: str, devices: int) -> FacilityFile:
    """Miners that sleep within five seconds, in a hall with one feeder."""
    group = Group(group_id="s21", type="ASIC", model="S21", firmware="luxos", feeder_id="f1", devices=devices)
    sample = demo_facilities(1, devices)[0]
    limit_mw = devices * 3.5 * PUE / 1000 * 1.02
    return sample.model_copy(
        update={
            "facility_id": facility_id,
            "name": facility_id,
            "capacity_mw": limit_mw,
            "feeders": (Feeder(feeder_id="f1", limit_mw=limit_mw, ramp=_ramp()),),
            "groups": (group,),
            "fallback": {},
            "ramps": _ramps(),
        }
    )


def _ramp() -> Ramp:
    return Ramp(up_mw=RAMP_MW, down_mw=RAMP_MW)


def _ramps() -> Ramps:
    return Ramps(facility=_ramp(), portfolio=_ramp())


def full_mw(document: FacilityFile) -> float:
    """All-in MW of all devices in their highest states."""
    kw = sum(g.devices * max(s.power_kw for s in document.resolved(g).ladder) for g in document.groups)
    return kw * document.pue.value / 1000


class Meters:
    """The simulated sites' revenue meters, read beside the gateways."""

    def __init__(self, settings: Settings, facilities: Sequence[str]) -> None:
        address = f"unix:{bulk_socket(settings)}"
        self._sites = {f: BulkSite(address, f, lambda _: None) for f in facilities}

    async def __aenter__(self) -> "Meters":
        """Connect."""
        for site in self._sites.values():
            await site.connect(10_000)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        for site in self._sites.values():
            await site.close()

    async def mw(self, facility_id: str) -> float:
        """All-in MW."""
        return (await self._sites[facility_id].meter()).power_w / 1e6

    async def until(
        self, facility_id: str, *, below: float = float("inf"), above: float = 0.0, within_s: float
    ) -> float | None:
        """Seconds until the meter is inside two limits; None where it is not within the time."""
        began_s = time.monotonic()
        while not above <= await self.mw(facility_id) <= below:
            if time.monotonic() - began_s > within_s:
                return None
            await asyncio.sleep(LOOK_EACH_S)
        return time.monotonic() - began_s


@dataclass(frozen=True)
class Bench:
    """What the cases share."""

    settings: Settings
    meters: Meters

    async def hcp(self, *arguments: str) -> dict[str, Any]:
        """What the command prints, typed by the operator.

        Raises:
            RuntimeError: it failed; what it said.
        """
        typed = (*arguments, "--as", OPERATOR, "--reason", "benchmark", "--json")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hcp_pipelines.cli.main", *typed, cwd=ROOT, env=child_environment(self.settings),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"hcp {' '.join(typed)}: {err.decode().strip() or out.decode().strip()}")
        found: dict[str, Any] = json.loads(out)
        return found

    async def curtail(self, case: Case) -> Curtailed:
        """Order it, and watch the meter from before the command starts."""
        before_mw = await self.meters.mw(case.facility_id)
        limit_mw = before_mw * (1 - case.share)
        began_s = time.monotonic()
        watch = asyncio.create_task(self.meters.until(case.facility_id, below=limit_mw, within_s=SHOWN_WITHIN_S))
        said = await self.hcp("curtail", case.facility_id, "--to", f"{limit_mw * ASKS_FOR:.6f}", *case.options)
        command_s = time.monotonic() - began_s
        seconds, after_mw = await watch, await self.meters.mw(case.facility_id)
        if "--direct" in case.options:
            (answer,) = said["facilities"]
            return Curtailed(case, before_mw, seconds, command_s, after_mw, answer["devices"])
        (placed,) = said["orders"]
        return Curtailed(case, before_mw, seconds, command_s, after_mw, self._told(case), placed["name"])

    def _told(self, case: Case) -> int:
        with connect(self.settings, Role.OPERATOR) as connection:
            row = connection.execute(DEVICES_SQL, (case.facility_id,)).fetchone()
            return int(row[0]) if row else 0

    async def release(self, done: Curtailed) -> None:
        """End the order; seconds until the load is back."""
        began_s = time.monotonic()
        await self.hcp("release", done.order)
        above = done.before_mw * FULL_LOAD
        if await self.meters.until(done.case.facility_id, above=above, within_s=BACK_WITHIN_S) is not None:
            done.back_s = time.monotonic() - began_s


async def measure(
    settings: Settings, documents: Sequence[FacilityFile], *, quick: bool
) -> tuple[list[Curtailed], Verdict, int]:
    """Start, load, curtail, stop, and read what was written: what came of the cases, the verdict, processes that died."""
    async with AsyncExitStack() as opened:
        stack = await opened.enter_async_context(running_stack(settings, say, documents))
        market = await open_market(settings, stack.clock, ALL_ON_USD)
        await market.connection.close()
        publish_policies(settings, stack.clock.now())
        await until_admitted(settings, len(ALLOCATORS), ADMITTED_WITHIN_S)
        with connect(settings, Role.OPERATOR) as connection:
            add(settings, connection, OPERATOR, OperatorRole.OPERATOR, "bench")
        meters = await opened.enter_async_context(Meters(settings, [d.facility_id for d in documents]))
        bench = Bench(settings, meters)
        await _load(meters, documents, QUICK_LOAD if quick else FULL_LOAD)
        say("curtailing")
        found = await (_all_at_once(bench) if quick else _one_by_one(bench))
        found.append(await _directly(stack, bench))
        await until_row(settings, UNANSWERED_SQL, (), (0,), ADMITTED_WITHIN_S, "commands without an answer")
        restarts = stack.restarts()
        stack.stop_all_but_postgres()
        return found, judge(settings), restarts


async def _load(meters: Meters, documents: Sequence[FacilityFile], mixed_share: float) -> None:
    """Until the fast facilities are at their load, and the mixed ones at such a share of it."""
    say("waking everything")
    for document in documents:
        wanted_mw = full_mw(document) * (FULL_LOAD if len(document.groups) == 1 else mixed_share)
        if await meters.until(document.facility_id, above=wanted_mw, within_s=LOADED_WITHIN_S) is None:
            raise TimeoutError(f"{document.facility_id}: not at {wanted_mw:.2f} MW within {LOADED_WITHIN_S:g} s")


async def _one_by_one(bench: Bench) -> list[Curtailed]:
    """Each case by itself; the ways back go on beside the cases that follow."""
    found = []
    async with asyncio.TaskGroup() as group:
        for case in BY_OWNERS:
            found.append(await bench.curtail(case))
            group.create_task(bench.release(found[-1]))
    return found


async def _all_at_once(bench: Bench) -> list[Curtailed]:
    """All cases together, and no way back: there is no time for it."""
    return list(await asyncio.gather(*(bench.curtail(case) for case in BY_OWNERS)))


async def _directly(stack: Stack, bench: Bench) -> Curtailed:
    """With Postgres stopped; it comes back for the judgement."""
    stack.stop_one("postgres")
    found = await bench.curtail(DIRECT_95)
    await stack.start_again("postgres")
    return found


def figures_of(found: Sequence[Curtailed], verdict: Verdict, settings: Settings) -> dict[str, Any]:
    """The benchmark's object, without what every benchmark's has."""
    return {
        "devices": settings.devices,
        "facilities": settings.facilities,
        **{one.case.name: one.figures() for one in found},
        "in_time": all(one.seconds is not None and one.seconds <= one.case.target_s for one in found),
        "acked": verdict.acked,
        "lost": verdict.lost + verdict.unanswered,
        "duplicated": verdict.doubled,
        "unjournalled": verdict.unjournalled,
        "clock_speed": settings.clock_speed,
    }


def is_right(figures: Mapping[str, Any], found: Sequence[Curtailed]) -> bool:
    """Whether every reduction was shown at all and nothing was lost or doubled; how soon is no matter of right and wrong."""
    wrong = sum(figures[key] for key in ("lost", "duplicated", "unjournalled", "restarts"))
    return not wrong and all(one.seconds is not None for one in found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hcp bench curtail", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_DEVICES} devices each, all orders at once, under a minute"
    )
    parser.add_argument(
        "--devices", type=int, default=0, help=f"of each of the four facilities (default {FULL_DEVICES})"
    )
    parser.add_argument("--keep", type=Path, default=None, help="use and keep this state directory")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; exit code 1 when a reduction never came, or a switch or a process was lost."""
    arguments = _arguments()
    quick = arguments.quick
    documents = documents_of(arguments.devices or (QUICK_DEVICES if quick else FULL_DEVICES))
    began_s = time.monotonic()
    with own_platform(arguments.keep, sum(d.devices for d in documents), len(documents), REAL_TIME) as settings:
        found, verdict, restarts = asyncio.run(measure(settings, documents, quick=quick))
    figures = figures_of(found, verdict, settings) | {"restarts": restarts, "load_average": load_average()}
    figures |= about(quick=quick, target=TARGET, began_s=began_s)
    print_figures(figures, as_json=arguments.json)
    return 0 if is_right(figures, found) else 1


if __name__ == "__main__":
    sys.exit(main())
