"""From the switch journal to latencies: what each tick's first waves took, step by step. Reads; computes; judges nothing."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common import percentile, rounded
from benchmarks.parts.market import Sent
from hcp_pipelines.settings import Settings
from hcp_pipelines.storage.postgres import connect
from hcp_pipelines.storage.roles import Role

STEPS = ("read", "plan", "journal", "send", "ack")
_WAVES = """
    select c.tick_id, c.facility_id, c.owner, min(c.wave), sum(c.devices) filter (where c.wave = 0),
           (array_agg(a.steps_ms) filter (where c.wave = 0 and a.steps_ms is not null))[1]
    from switch_journal c
    left join switch_journal a on a.command_id = c.command_id and a.assignment = c.assignment and a.event = 'acked'
    where c.event = 'commanded' group by 1, 2, 3"""


@dataclass(frozen=True)
class FirstWave:
    """A facility's first wave on a tick; `steps_ms` is None where it had to wait, or was never acknowledged."""

    facility_id: str
    owner: str
    wave: int
    devices: int
    steps_ms: dict[str, float] | None


@dataclass
class Ticks:
    """The measured ticks, by what they did."""

    facilities: int
    measured: int
    waves: dict[int, list[FirstWave]] = field(
        default_factory=dict
    )  # by tick number; ticks that moved nothing are not here

    @property
    def moved(self) -> list[int]:
        """Ticks that moved a device with a first wave."""
        return [n for n, waves in self.waves.items() if any(w.wave == 0 for w in waves)]

    @property
    def whole_fleet(self) -> list[int]:
        """Ticks on which every facility moved at once."""
        return [n for n in self.moved if sum(w.wave == 0 for w in self.waves[n]) == self.facilities]

    @property
    def waited(self) -> list[int]:
        """Ticks that moved devices later, when a ramp's window had room again."""
        return [n for n in self.waves if n not in set(self.moved)]

    def ack_ms(self, numbers: Iterable[int]) -> list[float]:
        """Per tick, when the last of its first waves was acknowledged."""
        acks = [[w.steps_ms["ack"] for w in self.waves[n] if w.steps_ms] for n in numbers]
        return [max(each) for each in acks if each]

    def first_wave_devices(self, numbers: Sequence[int]) -> list[float]:
        """Per tick, devices of its first waves."""
        return [float(sum(w.devices for w in self.waves[n])) for n in numbers]


def read_ticks(settings: Settings, sent: Sequence[Sent]) -> Ticks:
    """The measured ticks' first waves, out of the journal."""
    number_of_row = {row_id: tick.number for tick in sent for row_id in tick.row_ids}
    ticks = Ticks(settings.facilities, len(sent))
    with connect(settings, Role.OPERATOR) as connection:
        for tick_id, facility_id, owner, wave, devices, steps in connection.execute(_WAVES):
            number = number_of_row.get(tick_id)
            if number is not None:
                found = FirstWave(facility_id, owner, wave, int(devices or 0), steps)
                ticks.waves.setdefault(number, []).append(found)
    return ticks


def summary(ticks: Ticks) -> dict[str, Any]:
    """The latency keys of the benchmark's object, milliseconds."""
    breakdown = _breakdown(ticks)
    return {
        "moved_ticks": len(ticks.moved),
        **_percentiles(ticks.ack_ms(ticks.moved)),
        "whole_fleet": {
            "ticks": len(ticks.whole_fleet),
            **_percentiles(ticks.ack_ms(ticks.whole_fleet)),
            "devices_p50": rounded(percentile(ticks.first_wave_devices(ticks.whole_fleet), 0.5), 0),
        },
        "waited_for_ramp": len(ticks.waited),
        "breakdown_ms": {step: _p50_p95(values) for step, values in breakdown.items()},
        "plan_ms": rounded(percentile(breakdown["plan"], 0.95)),
    }


def _breakdown(ticks: Ticks) -> dict[str, list[float]]:
    """Milliseconds of each step on the way of each tick's last acknowledged wave.

    An owner plans its facilities one after the other, writes them in one commit and sends them together: `plan` is from the
    first facility's beginning to the last one's end.
    """
    steps: dict[str, list[float]] = defaultdict(list)
    for number in ticks.moved:
        waves = [w for w in ticks.waves[number] if w.steps_ms]
        if not waves:
            continue
        slowest = max(waves, key=lambda w: w.steps_ms["ack"] if w.steps_ms else 0.0)
        together = [w.steps_ms for w in waves if w.owner == slowest.owner and w.steps_ms]
        last = slowest.steps_ms or {}
        instants = {
            "read": min(s["read"] for s in together),
            "plan": max(s["plan"] for s in together),
            **{step: last[step] for step in ("journal", "send", "ack")},
        }
        before = 0.0
        for step in STEPS:
            steps[step].append(instants[step] - before)
            before = instants[step]
    return steps


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    return {f"p{round(share * 100)}_ms": rounded(percentile(values, share)) for share in (0.5, 0.95, 0.99)}


def _p50_p95(values: Sequence[float]) -> dict[str, float | None]:
    return {f"p{round(share * 100)}": rounded(percentile(values, share)) for share in (0.5, 0.95)}
