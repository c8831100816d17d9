"""The limit on starts: prices that flap do not wear devices out, and nobody else is held by it."""

import dataclasses
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.allocator.decide import InForce
from hcp_pipelines.allocator.devices import Switched
from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.preview import Situation, preview
from hcp_pipelines.allocator.standing import NOTHING_STANDS, Standing, Timed
from hcp_pipelines.fleet.document import Dwell
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.directives import Directive, Kind
from tests.support import fleet
from tests.unit.test_allocator_memory import successor
from tests.unit.test_allocator_owner import FULL, OFF, Rig

DEAR, CHEAP = 400.0, -60.0


def limited(rig, starts, **couplings):
    """The rig's policy with a limit on starts."""
    body = rig.owner.in_force.policy
    changed = body.couplings.model_copy(update={"starts_per_hour": starts, **couplings})
    body = body.model_copy(update={"couplings": changed})
    rig.owner.follow(InForce(1, body, compile_policy(body)))
    return rig


def flapping(starts, cycles, **options):
    """A rig whose price has gone up and down from interval to interval; at its end all miners sleep."""
    rig = limited(Rig(**options), starts)
    rig.switched = []
    for _ in range(cycles):
        for price in (DEAR, CHEAP):
            note(rig, rig.tick(price, minutes=15))
    note(rig, rig.tick(DEAR, minutes=15))
    assert rig.miners_on() == 0
    return rig


def note(rig, wave):
    for move in wave.plan.moves if wave else ():
        rig.owner.devices.taken_on(move.slots, move.to_state)
    for row in wave.rows if wave else ():
        rig.switched.append(Switched(row.simulated_at.timestamp(), row.from_state, row.mw_delta, row.slots))


def test_without_a_limit_they_follow_the_price_all_the_time():
    rig = flapping(None, cycles=2)
    rig.tick(CHEAP, minutes=15)
    assert rig.miners_on() == 500


def test_who_was_started_often_enough_rests_until_the_hour_is_over():
    rig = flapping(1, cycles=1)
    rig.tick(CHEAP, minutes=15)
    assert (rig.miners_on(), rig.owner.resting) == (0, 500)
    rig.tick(CHEAP, minutes=15)
    assert rig.miners_on() == 0, "the start was 45 minutes ago"
    rig.tick(CHEAP, minutes=15)
    assert (rig.miners_on(), rig.owner.resting) == (500, 0)


def test_what_rests_is_told_in_the_journal_of_what_leaves():
    rig = flapping(1, cycles=1)
    rig.owner.devices._starts.forget(np.arange(3, dtype=np.uint32))
    wave = rig.tick(CHEAP, minutes=15)
    assert sum(r.devices for r in wave.rows) == 3
    assert "497 devices rest" in wave.rows[0].reason_detail


def test_it_holds_starts_alone_neither_reductions_nor_more_of_what_runs():
    rig = flapping(1, cycles=1)
    group = next(g for g, kind in enumerate(rig.site.group_types) if kind == "ASIC")
    mine, eco = rig.site.shape.members[group], rig.site.shape.ladders[group][1]
    rig.owner.devices.states[mine] = eco
    devices = rig.site.shape.group_of_slot == group
    assert not rig.owner.devices.worn(1, rig.clock.now().timestamp())[devices].any()
    rig.tick(CHEAP, minutes=15)
    assert (rig.owner.devices.states[mine] == FULL).all()
    rig.tick(DEAR, minutes=15)
    assert (rig.owner.devices.states[mine] == OFF).all()


def test_an_operators_override_wakes_who_rests():
    rig = flapping(1, cycles=1)
    group = rig.site.shape.group_ids[0]
    until = rig.clock.now() + timedelta(hours=1)
    order = Directive("override/1", Kind.OVERRIDE, "ann", "why", group_id=group, state=FULL)
    rig.owner.stand(Standing(timed=(Timed(order, rig.clock.now(), until),)))
    wave = rig.plan()
    devices = int((rig.site.shape.group_of_slot == 0).sum())
    assert [(r.group_id, r.devices, r.actor) for r in wave.rows] == [(group, devices, "ann")]


def test_a_start_that_a_gateway_refused_wears_nobody_out():
    rig = flapping(1, cycles=0)
    wave = rig.tick(CHEAP, minutes=15)
    for move in wave.plan.moves:
        rig.owner.devices.put_back(move.slots, move.to_state, rig.clock.monotonic_s(), 0.0)
    rig.owner.ask()
    assert rig.plan() is not None
    assert rig.miners_on() == 500


def test_a_successor_counts_what_its_predecessor_started_and_a_new_session_of_the_same_owner_changes_nothing():
    rig = flapping(1, cycles=1)
    after = successor(rig)
    after.owner.devices.restore(rig.switched)
    after.tick(CHEAP, minutes=15)
    assert (after.miners_on(), after.owner.resting) == (0, 500)
    changed_at_s = rig.owner.devices.changed_at_s.copy()
    rig.owner.devices.restore([Switched(0.0, OFF, 1.0, rig.switched[0].slots)])
    assert np.array_equal(rig.owner.devices.changed_at_s, changed_at_s)


@pytest.mark.parametrize("starts", [1, 2])
def test_a_preview_says_who_rests(starts):
    rig = flapping(1, cycles=1)
    book, states = fleet.book(CHEAP, at=rig.clock.now()), rig.owner.devices.states.tobytes()
    held = limited(rig, starts).owner.in_force
    found = preview(
        Situation(
            site=rig.site, commanded=states, observed=states, book=book, in_force=held, standing=NOTHING_STANDS,
            obligations=Rows(), bookings=[], switches=rig.switched, memory={}, now=rig.clock.now(),
        )
    )  # fmt: skip
    assert found.resting == (500 if starts == 1 else 0)
    assert found.reached[0].after_s > (1000 if starts == 1 else 0), "nothing rises before the hour is over"
    assert found.is_complete
    assert found.devices == 500


def test_a_facility_file_limits_starts_unless_it_says_otherwise():
    def of(**dwell):
        made = fleet.inventory()
        made = dataclasses.replace(made, document=made.document.model_copy(update={"dwell": Dwell(**dwell)}))
        return fleet.policy(made, fleet.book()).couplings.starts_per_hour

    assert (of(), of(starts_per_hour=1), of(starts_per_hour=None)) == (2, 1, None)
