"""Each check sees what it is there for: a run in which all is well, with one record changed that must not be so.

The seeded bugs (test_harness.py) prove the checks that a change of the platform's code reaches; here are the others.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import check
from tests.faults.explore import play
from tests.faults.records import Admission, Entry, Run, Span
from tests.faults.schedule import Happening

SITE = "fac-1"
LASTS_S, CALM_S = 60.0, 80.0


@pytest.fixture(scope="module")
def well() -> Run:
    """A run with policies, a lock and its end, and nothing wrong."""
    schedule = [
        Happening(9.0, "lock", SITE, 40.0, 0.9),
        Happening(12.0, "policy", SITE),
        Happening(20.0, "policy", SITE),
    ]
    outcome = play("3", LASTS_S, schedule, CALM_S)
    assert outcome.violations == []
    return outcome.run


def of(run: Run, name: str) -> list:
    return [r for r in getattr(run, name) if r.facility_id == SITE]


def changed(run: Run, name: str, which, **changes) -> Run:
    """The run with the first such record of the site changed; without it when nothing is said."""
    records = list(getattr(run, name))
    place = next(n for n, r in enumerate(records) if r.facility_id == SITE and which(r))
    records[place : place + 1] = [replace(records[place], **changes)] if changes else []
    return replace(run, **{name: records})


def more(run: Run, name: str, *records) -> Run:
    return replace(run, **{name: [*getattr(run, name), *records]})


def without(run: Run, name: str, which) -> Run:
    return replace(run, **{name: [r for r in getattr(run, name) if r.facility_id != SITE or not which(r)]})


def facts(run: Run, **changes) -> Run:
    return replace(run, facilities=[replace(f, **changes) for f in run.facilities])


def is_taken(run: Run) -> Callable[[object], bool]:
    """Outcomes of commands of which the gateway took something on."""
    taken = {e.command_id for e in of(run, "entries") if e.kind == "ack" and any(slots for _, _, slots in e.parts)}
    return lambda r: r.command_id in taken


def outcome_of(run: Run, event: str, **changes) -> Run:
    took = is_taken(run)
    return changed(run, "journal", lambda r: r.event == event and r.devices and took(r), **changes)


def lock_from_the_beginning(run: Run) -> Run:
    slots = tuple(s for f in run.facilities if f.facility_id == SITE for g in f.groups for s in g.slots)
    return more(run, "entries", Entry(0.0, SITE, 0, "locks", slots=slots))


def fallback_by_itself(run: Run) -> Run:
    last = max(e.seq for e in of(run, "entries"))
    group = next(f for f in run.facilities if f.facility_id == SITE).groups[0]
    lowest = min(group.power_mw, key=group.power_mw.__getitem__)
    entry = Entry(run.ends_s - 1, SITE, last + 1, "local", state=lowest, slots=group.slots, reason="fallback_plan")
    return more(run, "entries", entry)


def reached_too_early(run: Run) -> Run:
    return changed(run, "sets", lambda s: True, at_s=0.0)


def of_another(run: Run) -> Run:
    return changed(run, "sets", lambda s: True, ref="00000000-0000-4000-8000-000000000000")


def small(run: Run, scope: str) -> Run:
    shrunk = []
    for f in run.facilities:
        limits = [replace(x, up_mw=x.up_mw / 50) if x.scope == scope else x for x in f.limits]
        shrunk.append(replace(f, limits=tuple(limits)))
    return replace(run, facilities=shrunk)


def up_already_says_the_journal(run: Run) -> Run:
    small_feeder = small(run, "f0")
    return replace(small_feeder, journal=[replace(j, from_state=j.to_state) for j in run.journal])


def everywhere(run: Run, what: str, from_s: float, until_s: float) -> Run:
    return more(run, "spans", *(Span(what, f.facility_id, from_s, until_s) for f in run.facilities))


def an_older_policy(run: Run) -> Run:
    return more(run, "admissions", Admission(run.ends_s, SITE, "alloc-a/9", 99, 0))


def draws_more(run: Run) -> Run:
    final = of(run, "finals")[0]
    highest = max(g for f in run.facilities if f.facility_id == SITE for g in f.groups[0].power_mw)
    drawn = tuple(highest if d != highest else 0 for d in final.drawn)
    return changed(run, "finals", lambda f: True, drawn=drawn)


def lease_ended_before(run: Run) -> Run:
    row = next(r for r in of(run, "journal") if r.event == "commanded")
    return changed(run, "spans", lambda s: s.what == "lease" and s.epoch == row.epoch, until_s=row.at_s - 1)


DOCTORED = {
    "lease": (lease_ended_before, "within the lease", "journalled"),
    "taken and not journalled": (lambda r: outcome_of(r, "acked"), "no lost command", "and the gateway took it"),
    "acked too many": (lambda r: outcome_of(r, "acked", devices=999), "no lost command", "acked 999 devices"),
    "acked none": (lambda r: outcome_of(r, "acked", devices=0), "no lost command", "acked 0 devices, the gateway took"),
    "never settled": (lambda r: outcome_of(r, "settled"), "no lost command", "it never settled"),
    "a local action": (lambda r: without(r, "journal", lambda j: j.event == "observed"), "local actions are journalled", ""),
    "told too early": (reached_too_early, "effective once", "not taken on"),
    "told by nobody": (of_another, "effective once", "not taken on"),
    "draws more": (draws_more, "nothing is left undone", "is to be in state"),
    "an older policy": (an_older_policy, "policies do not go back", "of tick 0 after one of"),
    "portfolio": (lambda r: small(r, "portfolio"), "ramps", "portfolio up"),
    "ramps": (up_already_says_the_journal, "ramps", "f0 up"),
    "not booked": (
        lambda r: replace(r, journal=[replace(j, mw_delta=0.0) for j in r.journal]), "every change is booked", "nobody had",
    ),
    "dwell": (lambda r: facts(r, min_up_s=1e9, min_down_s=1e9), "dwell", "went back after"),
    "taken on while locked": (lock_from_the_beginning, "locks", "was taken on for locked slots"),
    "awake though locked": (lambda r: without(r, "changes", lambda c: c.at_s > 9.0), "locks", "and awake"),
    "settled on no power": (lambda r: without(r, "changes", lambda c: True), "settled is power", "never drew it"),
    "stale for long": (lambda r: everywhere(r, "stale", 60.0, 140.0), "hold then fallback", "nothing was done"),
    "alone for long": (lambda r: everywhere(r, "alone", 35.0, 140.0), "alone then fallback", "nothing was done"),
    "fallback too early": (fallback_by_itself, "no fallback too early", "was not alone"),
}  # fmt: skip


@pytest.mark.parametrize("what", DOCTORED)
def test_a_record_that_must_not_be_so_is_seen(well, what):
    doctor, invariant, text = DOCTORED[what]
    found = check(doctor(well))
    assert any(v.invariant == invariant and text in v.text for v in found), found[:5]


def test_who_begins_when_an_owner_had_the_time_is_excused_by_what_is_sold_then(well):
    stale = everywhere(well, "stale", 60.0, 140.0)
    announced = [
        Entry(95.0, f.facility_id, 1_000_000, "epoch", epoch=99, owner="alloc-a") for f in well.facilities
    ]  # due at 90: nobody had twenty seconds before this
    run = more(stale, "entries", *announced)
    assert "hold then fallback" in {v.invariant for v in check(run)}
    sold = everywhere(run, "obligation", 112.0, 140.0)
    assert "hold then fallback" not in {v.invariant for v in check(sold)}


def test_the_checker_loads_no_code_of_the_platform():
    code = "import sys, tests.faults.checker; sys.exit(any(m.split('.')[0] == 'hcp_pipelines' for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
