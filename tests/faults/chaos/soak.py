"""A run: schedule, faults, healing, judgement, summary. `make soak` is its command line in `__main__.py`."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.chaos.adapter import collect
from tests.faults.chaos.injecting import Done, Injector
from tests.faults.chaos.judging import judge
from tests.faults.chaos.ordering import Operator
from tests.faults.chaos.plan import Fault
from tests.faults.chaos.sampling import Sample
from tests.faults.chaos.stage import Stage
from tests.faults.evidence import Violation
from tests.faults.records import Span
from tests.support.platform import RunningPlatform
from tests.support.platform import judge as judge_switches

CALM_WITHIN_S = 240.0
LOOK_AGAIN = 20  # a command under way is no lost one
RESTARTING = ("kill", "restart-fast", "restart-immediate", "skew")


@dataclass
class Report:
    """What a run has shown."""

    seconds: float
    done: list[Done]
    missed: Counter[str]
    orders: Counter[str]
    switches: dict[str, int]
    calm_after_s: float
    recovery_s: list[float]
    violations: list[Violation] = field(default_factory=list)
    samples: int = 0

    @property
    def faults(self) -> int:
        """Process faults that were done."""
        return sum(one.fault.is_fault for one in self.done)

    def prefix(self) -> list[Fault]:
        """The faults up to the first breach."""
        first_s = min((v.at_s for v in self.violations), default=0.0)
        return [one.fault for one in sorted(self.done, key=lambda d: d.real_s) if one.real_s <= first_s]

    def as_dict(self) -> dict[str, Any]:
        """The summary."""
        kinds = Counter(one.fault.kind for one in self.done if one.fault.is_fault)
        return {
            "seconds": round(self.seconds, 1), "faults": self.faults,
            "faults_per_minute": round(60 * self.faults / self.seconds, 1),
            "by_kind": dict(kinds), "missed": dict(self.missed), "orders": dict(self.orders), **self.switches,
            "meter_samples": self.samples, "calm_after_s": round(self.calm_after_s, 1),
            "recovery_s": _quantiles(self.recovery_s), "violations": [asdict(v) for v in self.violations],
        }  # fmt: skip


def chaos(platform: RunningPlatform, schedule: list[Fault], seed: int, keep: Path | None = None) -> Report:
    """Do the schedule on a healthy platform, heal, wait until all is calm, and judge."""
    with Stage(platform, seed) as stage:
        operator = Operator(stage)
        stage.wait_calm(CALM_WITHIN_S)
        injector, began_s = Injector(stage, operator), time.time()
        injector.run(schedule)
        ended_s = time.time()
        injector.heal()
        healed_s = time.time()
        restless = _restless(stage)
        calm_after_s = time.time() - healed_s
        operator.end_all()
        restless += _restless(stage)
        recovery_s = _recoveries(stage, injector.done)
    found, switches, samples = _judged(platform, stage, injector.done, keep)
    found = [v for v in found if v.at_s >= began_s or v.invariant in ("lost", "doubled")] + restless
    return Report(
        ended_s - began_s,
        injector.done,
        injector.missed,
        operator.done,
        switches,
        calm_after_s,
        recovery_s,
        found,
        samples,
    )


def _restless(stage: Stage) -> list[Violation]:
    """That a healed platform is not well in time; what it has done is judged all the same."""
    try:
        stage.wait_calm(CALM_WITHIN_S)
    except AssertionError as error:
        return [Violation(time.time(), "calm", "", str(error))]
    return []


def _judged(
    platform: RunningPlatform, stage: Stage, done: list[Done], keep: Path | None
) -> tuple[list[Violation], dict[str, int], int]:
    switches = judge_switches(platform)
    for _ in range(LOOK_AGAIN):
        if not (switches["lost"] or switches["unanswered"]):
            break
        time.sleep(1)
        switches = judge_switches(platform)
    skew_s = max((abs(d.fault.amount) for d in done if d.fault.kind == "skew"), default=0.0)
    run = collect(platform.settings, platform.settings.clock_speed, skew_s, time.time())
    run.finals, run.spans = stage.finals(), stage.watch.armed + list(_alone(stage, done))
    samples: list[Sample] = stage.meters.samples
    if keep is not None:
        (keep / "meters.ndjson").write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
        (keep / "run.ndjson").write_text("".join(f"{line}\n" for line in run.lines()))
    found = judge(run, samples)
    now_s = time.time()
    for name in ("lost", "doubled", "unanswered", "unjournalled"):
        if switches[name]:
            found.append(Violation(now_s, name, "", f"{switches[name]} devices"))
    return found, switches, len(samples)


def _alone(stage: Stage, done: list[Done]) -> Iterator[Span]:
    """Gateways that ran all the time while no allocator could reach them."""
    stopped = [d for d in done if d.fault.kind in ("stop", "full-disk")]
    for one in done:
        name, from_s, until_s = one.fault.target, one.real_s, one.ended_s
        was_stopped = any(d.fault.target == name and d.real_s < until_s and d.ended_s > from_s for d in stopped)
        if one.fault.kind == "cut" and not was_stopped and stage.watch.ran_through(name, from_s, until_s):
            yield from (Span("alone", facility_id, from_s, until_s) for facility_id in stage.facilities_of(name))


def _recoveries(stage: Stage, done: list[Done]) -> list[float]:
    """Seconds until a process that a fault ended was healthy again."""
    found = []
    for one in done:
        if one.fault.kind in RESTARTING:
            seconds = stage.watch.back_after_s(one.fault.target, one.real_s, one.pid)
            if seconds is not None:
                found.append(seconds)
    return sorted(found)


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {
        name: round(values[int(share * (len(values) - 1))], 1)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
    }
