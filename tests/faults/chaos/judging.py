"""Judges what a platform left behind against DESIGN §7: the checker of tests/faults as far as the records reach, and the rest.

The rest is what the deterministic harness knows from its network and devices: the order of journal, store and act by their
instants, ramps by samples of the revenue meters. No code of the platform here. Each finding has the instant of the breach.
Lost and doubled switches are also judged by `benchmarks/parts/verdict.py`, which reads the same files in its own way.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from tests.faults.chaos.sampling import Sample
from tests.faults.check_load import check_portfolio, dwell, floors, locks, ramps
from tests.faults.check_safety import fallback_in_time
from tests.faults.checker import (
    effective_once_and_in_order,
    local_actions_are_journalled,
    no_lost_command,
    nothing_is_left_undone,
    one_owner,
)
from tests.faults.evidence import EXEMPT, Site, Violation
from tests.faults.records import Entry, Facility, Journal, Limit, Run, Set

CHECKS = (  # of the checker: those for which a real platform leaves enough behind
    one_owner, no_lost_command, local_actions_are_journalled, effective_once_and_in_order, nothing_is_left_undone, locks, ramps,
    dwell, floors, fallback_in_time,
)  # fmt: skip
UNDER_WAY_S = 30.0  # real: until what was told in an earlier window has fallen
METER_SLACK = 0.05  # of the facility's full power: what devices draw differs that much from their models' figures


def judge(run: Run, samples: Sequence[Sample]) -> list[Violation]:
    """All violations, earliest first."""
    found: list[Violation] = []
    for facility in run.facilities:
        name = facility.facility_id
        entries = [e for e in run.entries if e.facility_id == name]
        journal = [j for j in run.journal if j.facility_id == name]
        sets = [s for s in run.sets if s.facility_id == name]
        site = Site(facility, run)
        for check in CHECKS:
            found += check(site)
        found += journal_comes_before_the_command(name, journal, entries)
        found += ack_comes_after_the_store(name, journal, entries)
        found += devices_move_after_the_store(name, entries, sets)
        metered = [s for s in samples if s.facility_id == name]
        found += ramps_hold_at_the_meter(facility, journal, entries, metered, run.skew_s * run.speed)
    return sorted([*found, *check_portfolio(run)], key=lambda v: v.at_s)


def journal_comes_before_the_command(
    name: str, journal: Iterable[Journal], entries: Iterable[Entry]
) -> Iterator[Violation]:
    """Every command that a gateway stored had been written to the journal before."""
    written = {(j.command_id, j.assignment): j.at_s for j in journal if j.event == "commanded"}
    for entry in entries:
        if entry.kind == "command":
            for index, _, _ in entry.parts:
                at_s = written.get((entry.command_id, index))
                if at_s is None or at_s > entry.at_s:
                    says = f"command {entry.command_id}/{index}: " + (
                        "not in the journal" if at_s is None else "journalled later"
                    )
                    yield Violation(entry.at_s, "journal first", name, says)


def ack_comes_after_the_store(name: str, journal: Iterable[Journal], entries: Iterable[Entry]) -> Iterator[Violation]:
    """Every ack in the journal is of a command that the gateway had stored, with just the devices that its own ack names."""
    stored = {e.command_id: e.at_s for e in entries if e.kind == "command"}
    accepted = {(e.command_id, i): len(s) for e in entries if e.kind == "ack" for i, _, s in e.parts}
    for row in journal:
        if row.event != "acked" or not row.devices:
            continue
        at_s = stored.get(row.command_id)
        if at_s is None or at_s > row.at_s:
            yield Violation(
                row.at_s, "store before ack", name, f"command {row.command_id} was acknowledged and not stored"
            )
        elif accepted.get((row.command_id, row.assignment)) != row.devices:
            says = (
                f"command {row.command_id}/{row.assignment}: {row.devices} acknowledged, not what the gateway's log has"
            )
            yield Violation(row.at_s, "store before ack", name, says)


def devices_move_after_the_store(name: str, entries: Iterable[Entry], sets: Iterable[Set]) -> Iterator[Violation]:
    """No device is told anything by a command that its gateway has not stored before."""
    stored = {e.command_id: e.at_s for e in entries if e.kind == "command"}
    for told in sets:
        if told.ref in stored and told.at_s < stored[told.ref]:
            yield Violation(
                told.at_s, "store before act", name, f"command {told.ref} reached devices before it was stored"
            )


def ramps_hold_at_the_meter(
    facility: Facility, journal: Sequence[Journal], entries: Sequence[Entry], samples: Sequence[Sample], skew_s: float
) -> Iterator[Violation]:
    """Within any window the meter rises and falls no more than it may; reductions that never wait are counted out.

    Clocks that differ by `skew_s` (simulated) make the window that much shorter.
    """
    found = next((x for x in facility.limits if x.scope == "facility"), None)
    if found is None:
        return
    limit = replace(found, window_s=found.window_s - skew_s)
    slack_mw = METER_SLACK * sum(max(g.power_mw.values()) * len(g.slots) for g in facility.groups)
    exempt = _not_delayed(facility, journal, entries)
    times, until_s = [s.simulated_s for s in samples], float("-inf")
    for n, sample in enumerate(samples):
        first = bisect_left(times, sample.simulated_s - limit.window_s, 0, n + 1)
        if sample.simulated_s < until_s:
            continue  # one window, one finding
        yield from _judged(facility.facility_id, limit, samples[first : n + 1], exempt, slack_mw)
        if _is_out(limit, samples[first : n + 1], exempt, slack_mw):
            until_s = sample.simulated_s + limit.window_s


def _judged(
    name: str, limit: Limit, window: Sequence[Sample], exempt: Sequence[tuple[float, float]], slack_mw: float
) -> Iterator[Violation]:
    out = _is_out(limit, window, exempt, slack_mw)
    if out:
        yield Violation(window[-1].real_s, "ramps at the meter", name, out)


def _is_out(limit: Limit, window: Sequence[Sample], exempt: Sequence[tuple[float, float]], slack_mw: float) -> str:
    last = window[-1]
    rise = last.power_mw - min(s.power_mw for s in window)
    fall = max(s.power_mw for s in window) - last.power_mw
    if rise > limit.up_mw + slack_mw:
        return f"+{rise:.4f} MW in {limit.window_s:.0f} s at the meter, allowed {limit.up_mw:.4f}"
    freed = sum(mw for at_s, mw in exempt if window[0].real_s - UNDER_WAY_S <= at_s <= last.real_s)
    if fall > limit.down_mw + freed + slack_mw:
        allowed = f"allowed {limit.down_mw:.4f} and {freed:.4f} that never waits"
        return f"-{fall:.4f} MW in {limit.window_s:.0f} s at the meter, {allowed}"
    return ""


def _not_delayed(facility: Facility, journal: Iterable[Journal], entries: Iterable[Entry]) -> list[tuple[float, float]]:
    """(instant, MW) of reductions that need not wait."""
    most_mw = {slot: max(g.power_mw.values()) for g in facility.groups for slot in g.slots}
    found = [(j.at_s, -j.mw_delta) for j in journal if j.event == "commanded" and j.reason in EXEMPT and j.mw_delta < 0]
    found += [(e.at_s, sum(most_mw.get(s, 0.0) for s in e.slots)) for e in entries if e.kind == "local" and e.slots]
    return found


def by_invariant(found: Iterable[Violation]) -> dict[str, int]:
    """How many of each."""
    counts: dict[str, int] = defaultdict(int)
    for one in found:
        counts[one.invariant] += 1
    return dict(counts)
