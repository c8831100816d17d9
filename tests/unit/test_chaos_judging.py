"""The judgement of process chaos finds what it is there for: one seeded breach each, and none in a run that keeps its word."""

from dataclasses import replace

from tests.faults.chaos.judging import by_invariant, judge
from tests.faults.chaos.sampling import Sample
from tests.faults.records import Entry, Facility, Final, Group, Journal, Limit, Run, Set

COMMAND, SLOTS = "6f2c0f1e-0000-4000-8000-000000000001", (0, 1, 2)
GROUP = Group("g", "f", SLOTS, {0: 0.0, 3: 0.004}, {0: 60.0, 3: 60.0}, is_sheddable=True)
LIMITS = (Limit("facility", 0.02, 0.02, 300.0),)
FACILITY = Facility("fac", (GROUP,), LIMITS, {"g": 0}, 900.0, 900.0, 1800.0, 0.0, 0.0)
ROW = Journal(10.0, "commanded", "fac", "a", 1, COMMAND, 0, "g", 0, 3, SLOTS, 3, "economics", 0.012)
ACKED = replace(ROW, at_s=12.0, event="acked", slots=(), from_state=None, mw_delta=0.0)
SETTLED = replace(ACKED, at_s=14.0, event="settled")
STORED = [
    Entry(9.0, "fac", 1, "epoch", epoch=1, owner="a"),
    Entry(10.5, "fac", 2, "command", COMMAND, 1, parts=((0, 3, SLOTS),), reason="economics"),
    Entry(11.0, "fac", 3, "ack", COMMAND, parts=((0, 0, SLOTS),)),
]
TOLD = Set(11.2, "fac", COMMAND, 0, 3, SLOTS)
FINAL = Final("fac", (3, 3, 3), (3, 3, 3), ())
METER = [Sample(10.0 + n, "fac", 60.0 * n, mw) for n, mw in enumerate((0.0, 0.0, 0.012, 0.012, 0.012))]


def judged(journal=(ROW, ACKED, SETTLED), entries=STORED, sets=(TOLD,), finals=(FINAL,), samples=METER):
    run = Run(60.0, 200.0, 0.0, [FACILITY], list(journal), list(entries), [], list(sets), [], [], [], list(finals))
    return set(by_invariant(judge(run, samples)))


def test_a_run_that_keeps_its_word_breaks_nothing():
    assert judged() == set()


def test_a_command_that_left_before_it_was_journalled():
    assert "journal first" in judged(journal=(replace(ROW, at_s=10.6), ACKED, SETTLED))
    assert "journal first" in judged(journal=())


def test_an_ack_of_what_was_never_stored():
    assert "store before ack" in judged(entries=STORED[:1])
    assert "store before ack" in judged(journal=(ROW, replace(ACKED, at_s=10.4), SETTLED))
    assert "store before ack" in judged(journal=(ROW, replace(ACKED, devices=2), SETTLED))


def test_devices_that_were_told_before_the_store():
    assert "store before act" in judged(sets=(replace(TOLD, at_s=10.4),))


def test_devices_that_were_never_told():
    assert "nothing is left undone" in judged(finals=(replace(FINAL, drawn=(3, 3, 0)),))


def test_a_meter_that_rises_or_falls_faster_than_it_may():
    steep = [replace_mw(sample, mw) for sample, mw in zip(METER, (0.0, 0.0, 0.03, 0.03, 0.03), strict=True)]
    assert judged(samples=steep) == {"ramps at the meter"}
    assert judged(samples=[replace_mw(s, 0.03 - s.power_mw * 2.5) for s in METER]) == {"ramps at the meter"}


def test_a_reduction_that_never_waits_may_be_steep():
    down = replace(ROW, at_s=10.1, reason="emergency_stop", to_state=0, from_state=3, mw_delta=-0.03)
    steep = [replace_mw(s, 0.03 - s.power_mw * 2.5) for s in METER]
    other = replace(down, command_id="6f2c0f1e-0000-4000-8000-000000000002")
    assert "ramps at the meter" not in judged(journal=(ROW, ACKED, SETTLED, other), samples=steep)


def replace_mw(sample, power_mw):
    return sample._replace(power_mw=power_mw)
