"""Desired rows at an owner: exactly their slots, under the policy's bound, behind locks and orders, at a successor alike."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from hcp_pipelines.allocator.approvals import Approved
from hcp_pipelines.allocator.explain import explained
from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.preview import Situation, preview, with_order
from hcp_pipelines.allocator.standing import Lockout, Standing, Timed
from hcp_pipelines.domain.modes import ControlMode, DeviceState
from hcp_pipelines.policy.directives import Directive, Kind
from hcp_pipelines.wire.slots import decode_slots, encode_slots
from tests.support import fleet
from tests.support.desired import BATCH, IDLE, Desired, Rig, stored, works_of
from tests.support.fleet import NOON

ALL = set(range(100))
FIRST = Desired(1, tuple(range(0, 60, 2)), priority=90)
SECOND = Desired(2, tuple(range(61, 86)), priority=50)
THIRD = Desired(3, tuple(range(1, 41, 2)), priority=10)
ROWS = (FIRST, SECOND, THIRD)


def slots(*rows):
    return {s for r in rows for s in r.slots}


def gpu_rows(wave, rig):
    return [r for r in wave.rows if r.group_id == "h100"] if wave else []


@pytest.fixture
def rig():
    made = Rig()
    made.arrive(made.plan())
    return made


def test_exactly_the_desired_slots_work_and_the_others_rest(rig):
    assert rig.at(IDLE) == ALL, "nobody wants anything"
    wave = rig.desire(*ROWS)
    assert rig.at(BATCH) == slots(*ROWS)
    assert rig.at(IDLE) == ALL - slots(*ROWS)
    assert all(rig.runs(row) for row in ROWS)
    by_row = [
        (row, told) for row, told in zip(wave.rows, wave.command.assignments, strict=True) if told.HasField("work")
    ]
    assert [told.work.workload_id for _, told in by_row] == ["work-1", "work-2", "work-3"], (
        "an assignment a row, in line"
    )
    for wanted, (row, told) in zip(ROWS, by_row, strict=True):
        why = f"workload work-{wanted.row_id}; 3 of 3 desired rows run"
        assert (row.reason, row.actor, row.reason_detail) == ("workload", "scheduler", why)
        assert set((decode_slots(told.slots, 600) - rig.first).tolist()) == slots(wanted)
        assert (told.work.model, told.work.weights_gib, told.work.load) == (f"model-{wanted.row_id}", 16.0, "cold")


def test_what_became_of_a_row_is_said_once_and_settled_is_what_has_arrived(rig):
    wave = rig.desire(FIRST)
    assert rig.news() == [(1, "holding")]
    rig.owner.ask()
    rig.plan()
    assert rig.news() == []
    rig.acknowledge(wave)
    assert rig.news() == [], "taken on is not there: it loads"
    rig.arrive(wave)
    assert rig.news() == [(1, "settled")]
    rig.owner.settle_work()
    rig.owner.ask()
    rig.plan()
    assert rig.news() == []


def test_a_price_turns_the_last_in_line_down_whole_in_its_own_wave(rig):
    rig.desire(*ROWS)
    rig.owner.take_work_news()
    wave = rig.tick(1_000.0, minutes=15)
    assert rig.at(BATCH) == slots(FIRST, SECOND), "60 may work: the third row's 20 don't fit beside 30 and 25"
    [row] = gpu_rows(wave, rig)
    assert (row.reason, row.tick_id, row.actor) == ("economics", 101, "policy")
    assert set((decode_slots(row.slots, 600) - rig.first).tolist()) == slots(THIRD)
    [news] = rig.owner.take_work_news()
    assert (news.desired_state_id, news.state, news.owner_epoch) == (3, "turned_down", 1)
    assert news.reason.startswith("tick 101 at 1000.00 $/MWh: the policy lets 60 devices of h100 be in inference_batch")
    rig.tick(30.0, minutes=15)
    assert rig.at(BATCH) == slots(*ROWS), "and comes back by itself"


def test_a_row_that_does_not_fit_is_passed_over_for_a_smaller_one_behind_it(rig):
    small = Desired(4, (99,), priority=5)
    rig.desire(*ROWS, small)
    rig.tick(1_000.0, minutes=15)
    assert rig.at(BATCH) == slots(FIRST, SECOND, small)


def test_without_a_bound_left_all_go_and_asleep_are_as_many_as_the_policy_wants(rig):
    rig.desire(*ROWS)
    rig.tick(4_000.0)
    assert rig.at(IDLE) == ALL, "warm is the least that this group can"


def test_a_group_at_rest_is_not_held_there_by_its_own_band(rig):
    assert rig.tick(1_600.0) is not None, "between the strikes of the steady part"
    rig.desire(FIRST)
    assert rig.at(BATCH) == slots(FIRST)


def test_groups_that_are_not_scheduled_do_as_they_did():
    told = [Rig(), Rig(scheduled=frozenset())]
    for rig in told:
        rig.plan()
        rig.desire(*ROWS) if rig.site.scheduled else None
    for price in (400.0, 30.0, -20.0, 900.0, 5_000.0):
        for rig in told:
            rig.tick(price, minutes=15)
        scheduled, plain = (rig.owner.devices.states[:500] for rig in told)
        assert scheduled.tobytes() == plain.tobytes(), "to the slot"


def test_a_lease_that_has_run_out_stops_the_work(rig):
    lasting = replace(FIRST, ends_at_s=rig.clock.monotonic_s() + 60.0)
    rig.desire(lasting, SECOND)
    rig.clock.advance(59.0)
    rig.owner.ask()
    assert rig.plan() is None
    rig.owner.desire(stored(lasting, SECOND))
    rig.clock.advance(2.0)
    rig.owner.ask()
    wave = rig.plan()
    assert rig.at(BATCH) == slots(SECOND)
    assert [r.reason for r in gpu_rows(wave, rig)] == ["workload"]
    renewed = replace(lasting, ends_at_s=rig.clock.monotonic_s() + 60.0)
    rig.desire(renewed, SECOND)
    assert rig.at(BATCH) == slots(FIRST, SECOND)


def test_a_row_that_is_taken_back_makes_room_in_the_same_wave(rig):
    rig.desire(*ROWS)
    rig.tick(1_000.0, minutes=15)
    rig.desire(FIRST, THIRD)
    assert rig.at(BATCH) == slots(FIRST, THIRD)


def curtailed(mw, kind=Kind.CURTAIL):
    directive = Directive("curtail/7", kind, "ann", "hot", cap_mw=mw)
    return Standing((Timed(directive, NOON - timedelta(hours=1), None),))


def test_a_curtailment_takes_what_nobody_wants_and_then_the_last_in_line(rig):
    rig.desire(*ROWS)
    rig.tick(400.0)
    assert rig.owner.take_work_news()[-1].state == "holding"
    mw = float((rig.owner.present() * rig.site.shape.power_mw).sum())
    ten_mw = 10 * float(rig.site.shape.power_mw[3, BATCH] - rig.site.shape.power_mw[3, IDLE])
    rig.owner.stand(curtailed(mw - ten_mw))
    rig.plan()
    assert slots(FIRST, SECOND) <= rig.at(BATCH)
    assert len(rig.at(BATCH)) == len(slots(*ROWS)) - 10
    [news] = rig.owner.take_work_news()
    assert (news.desired_state_id, news.state, news.reason) == (3, "turned_down", "curtail/7: hot")


@pytest.mark.parametrize("kind", [Kind.STOP, Kind.SHED, Kind.RESPONSE])
def test_whatever_must_go_goes(rig, kind):
    rig.desire(*ROWS)
    rig.owner.stand(curtailed(0.0, kind))
    rig.plan()
    assert rig.at(BATCH) == set()
    rig.owner.stand(Standing())
    for _ in range(3):
        rig.tick(30.0)
    assert rig.at(BATCH) == slots(*ROWS)


def test_a_lock_in_the_middle_of_a_gang_takes_all_of_it(rig):
    rig.desire(*ROWS)
    rig.owner.take_work_news()
    rig.tick(30.0)
    lock = Lockout(5, "ann", "hands inside", "device", "", encode_slots(np.array([rig.first + 2], dtype=np.uint32)))
    rig.owner.stand(Standing(lockouts=(lock,)))
    rig.plan()
    assert rig.at(BATCH) == slots(SECOND, THIRD)
    [news] = rig.owner.take_work_news()
    assert (news.desired_state_id, news.state, news.reason) == (1, "turned_down", "1 of its 30 devices are locked out")


def test_an_override_goes_first_and_what_it_switches_on_goes_to_rows_that_wait(rig):
    rig.desire(*ROWS)
    rig.tick(4_000.0)
    rig.owner.take_work_news()
    whole = Directive(
        "override/1", Kind.OVERRIDE, "ann", "try", group_id="h100", state=DeviceState.INFERENCE_BATCH, devices=55
    )
    rig.owner.stand(Standing((Timed(whole, NOON, None),)))
    rig.plan()
    assert rig.at(BATCH) == slots(FIRST, SECOND)
    assert rig.news() == [(1, "holding"), (2, "holding")]


def test_a_device_that_is_left_alone_for_a_moment_turns_no_gang_down(rig):
    gang = Desired(1, tuple(range(100)))
    wave = rig.desire(gang)
    some = np.array([rig.first + 3], dtype=np.uint32)
    [move] = wave.plan.moves
    rig.owner.devices.taken_on(np.setdiff1d(move.slots, some), BATCH, move.work)
    rig.owner.devices.put_back(some, BATCH, rig.clock.monotonic_s(), 5.0, move.work)
    assert rig.tick(31.0, minutes=0.05) is None
    assert rig.at(BATCH) == ALL - {3}
    rig.tick(32.0)
    assert rig.at(BATCH) == ALL


def test_a_device_in_quarantine_turns_its_gang_down(rig):
    rig.desire(*ROWS)
    for _ in range(3):
        rig.owner.devices.failed(np.array([rig.first + 61], dtype=np.uint32))
    rig.owner.ask()
    rig.plan()
    assert rig.at(BATCH) == slots(FIRST, THIRD) | {61}, "what is in quarantine can't be told anything"
    assert rig.owner.take_work_news()[-1].reason == "1 of its 25 devices do not answer, or are in quarantine"


def test_a_successor_does_nothing_else_and_says_it_again(rig):
    rig.desire(*ROWS)
    rig.tick(1_000.0, minutes=15)
    second = Rig(price=1_000.0, memory=rig.owner.memory(), clock=rig.clock, epoch=2, **rig.told())
    second.book = rig.book
    assert second.desire(*ROWS) is None
    assert second.at(BATCH) == slots(FIRST, SECOND)
    assert second.news() == [(1, "settled"), (2, "settled"), (3, "turned_down")]


def test_an_owner_without_a_policy_lets_go_on_what_is_wanted_and_begins_nothing_beyond_what_ran():
    states = Rig().owner.devices.states.copy()
    states[500:][sorted(ALL - slots(FIRST, SECOND))] = IDLE
    rig = Rig(states=states, works=works_of(FIRST, SECOND))
    rig.owner.following.in_force = None
    assert rig.desire(FIRST, SECOND, THIRD) is None
    assert rig.news() == [(1, "settled"), (2, "settled")], (
        "and nothing of the one that only waits: who has a policy says it"
    )
    rig.desire(FIRST)
    assert rig.at(BATCH) == slots(FIRST), "what nobody wants rests"
    rig.desire(FIRST, THIRD)
    assert rig.at(BATCH) == slots(FIRST)
    assert rig.miners() == rig.miners_at_first


def test_what_a_successor_remembers_of_a_lower_bound_turns_nothing_down_that_runs():
    rig = Rig()
    rig.desire(*ROWS)
    rig.tick(4_000.0)
    low = rig.owner.memory()
    states = Rig().owner.devices.states.copy()
    states[500:][sorted(ALL - slots(*ROWS))] = IDLE
    second = Rig(memory=low, states=states, works=works_of(*ROWS), epoch=2)
    second.owner.following.in_force = None
    assert second.desire(*ROWS) is None
    assert second.news() == [(1, "settled"), (2, "settled"), (3, "settled")]


def test_what_a_successor_remembers_of_a_higher_bound_begins_nothing_before_it_has_a_policy(rig):
    rig.desire(*ROWS)
    high = rig.owner.memory()
    rig.tick(1_000.0, minutes=15)
    second = Rig(memory=high, clock=rig.clock, epoch=2, **rig.told())
    in_force, second.owner.following.in_force, second.book = second.owner.in_force, None, rig.book
    assert second.desire(*ROWS) is None
    second.owner.follow(in_force)
    assert second.plan() is None
    assert second.news() == [(1, "settled"), (2, "settled"), (3, "turned_down")]


def test_observing_is_no_doing():
    rig = Rig(control_mode=ControlMode.OBSERVE)
    assert rig.desire(*ROWS) is None
    assert rig.at(BATCH) == ALL
    assert rig.news() == [(1, "turned_down"), (2, "turned_down"), (3, "turned_down")]


def test_in_approve_what_rows_change_waits_for_somebody_to_agree():
    rig = Rig(control_mode=ControlMode.APPROVE)
    rig.desire(*ROWS)
    assert rig.at(BATCH) == ALL
    question = rig.owner.question
    assert question.subject == "h100: idle 25, inference_batch 75"
    rig.owner.approved = Approved(frozenset({question.subject}))
    rig.owner.ask()
    rig.plan()
    assert rig.at(BATCH) == slots(*ROWS)


def test_under_a_ramp_rows_rise_and_fall_one_after_the_other():
    each = float(Rig().site.shape.power_mw[3, BATCH] - Rig().site.shape.power_mw[3, IDLE])
    rig = Rig(ramps=(fleet.ramp("feeder", 25 * each, "feeder-2"),))
    for _ in range(8):
        rig.tick(30.0)
    assert rig.at(IDLE) == ALL
    rig.desire(*ROWS)
    assert rig.at(BATCH) < slots(FIRST)
    assert len(rig.at(BATCH)) == 25
    rig.tick(31.0)
    assert slots(FIRST) < rig.at(BATCH) < slots(FIRST, SECOND)
    for _ in range(2):
        rig.tick(30.0)
    rig.tick(5_000.0, minutes=15)
    assert slots(FIRST, SECOND) > rig.at(BATCH) > slots(FIRST), "25 at a time, from behind"


def test_least_times_on_hold_no_work_back(rig):
    couplings = rig.owner.in_force.policy.couplings.model_copy(update={"min_up_s": 3600.0, "min_down_s": 3600.0})
    held = rig.owner.in_force.policy.model_copy(update={"couplings": couplings})
    rig.owner.follow(replace(rig.owner.in_force, policy=held))
    rig.desire(*ROWS)
    rig.tick(1_000.0, minutes=15)
    assert rig.at(BATCH) == slots(FIRST, SECOND)


def test_stale_prices_hold_the_last_bound_and_then_the_fallback_plan_is_one(rig):
    rig.desire(*ROWS)
    rig.tick(1_000.0, minutes=15)
    rig.clock.advance(1_000.0)
    rig.desire(FIRST, SECOND, THIRD, Desired(8, (98, 99), priority=20))
    assert rig.at(BATCH) == slots(FIRST, SECOND) | {98, 99}, "held at 60"
    rig.clock.advance(2_000.0)
    rig.owner.ask()
    rig.plan()
    assert rig.site.fallback["h100"] is DeviceState.INFERENCE_BATCH
    assert rig.at(BATCH) == slots(*ROWS) | {98, 99}, "whose word is: all of them"


def situation(rig, *rows):
    return Situation(
        site=rig.site, commanded=rig.owner.devices.states.tobytes(), observed=rig.owner.devices.states.tobytes(), book=rig.book,
        in_force=rig.owner.in_force, standing=Standing(), obligations=Rows(), bookings=[], switches=[],
        memory=rig.owner.memory(), now=rig.clock.now(), desired=stored(*rows),
    )  # fmt: skip


def test_a_preview_knows_the_rows_and_what_an_order_does_to_them(rig):
    rig.desire(*ROWS)
    assert preview(situation(rig, *ROWS)).devices == 0
    rows = (FIRST, replace(SECOND, ends_at_s=rig.clock.monotonic_s() + 1.0), Desired(9, (98, 99)))
    found = preview(situation(rig, *rows))
    [gpus] = [g for g in found.groups if g.group_id == "h100"]
    assert (gpus.now, gpus.then) == ({"idle": 25, "inference_batch": 75}, {"idle": 43, "inference_batch": 57})
    assert found.reasons == ("workload",)
    stopped = Timed(Directive("x/0", Kind.STOP, "ann", "smoke", cap_mw=0.0), NOON, None)
    [gpus] = [g for g in preview(with_order(situation(rig, *ROWS), stopped)).groups if g.group_id == "h100"]
    assert gpus.then == {"idle": 100}


def test_an_explanation_is_of_the_policys_own_mix_and_names_the_rows(rig):
    found = explained(situation(rig, *ROWS))
    assert "3 desired rows say which devices of h100 work, the policy how many at most" in found.over_it
    assert rig.at(IDLE) == ALL
    assert [b.on_now for b in found.explanation.blocks if b.group_id == "h100"] == [60, 40]


@pytest.mark.parametrize("mode", [ControlMode.OBSERVE, ControlMode.APPROVE])
def test_what_runs_as_nothing_may_be_changed_any_more_runs_on_in_the_books_too(rig, mode):
    rig.desire(FIRST, SECOND)
    second = Rig(clock=rig.clock, epoch=2, control_mode=mode, **rig.told())
    assert second.desire(*ROWS) is None
    found = {n.desired_state_id: (n.state, n.cause) for n in second.owner.take_work_news()}
    assert found == {1: ("settled", ""), 2: ("settled", ""), 3: ("turned_down", "mode")}, (
        "it begins nowhere a second time"
    )


def test_why_a_row_is_turned_down_is_said_in_a_word_with_the_devices_that_are_why(rig):
    rig.desire(*ROWS)
    rig.owner.take_work_news()
    rig.owner.devices.dark[rig.first + np.array([2, 4])] = True
    rig.owner.ask()
    rig.plan()
    [news] = rig.owner.take_work_news()
    assert (news.desired_state_id, news.cause) == (1, "dark")
    assert np.frombuffer(news.slots, dtype="<u4").tolist() == [2, 4]
    rig.owner.devices.dark[:] = False
    rig.owner.ask()
    rig.plan()
    rig.owner.take_work_news()
    rig.tick(1_000.0, minutes=15)
    assert [(n.desired_state_id, n.cause, n.slots) for n in rig.owner.take_work_news()] == [(3, "room", None)]


def test_of_a_gateway_that_is_silent_for_long_nobody_knows_whether_work_runs(rig):
    rig.arrive(rig.desire(FIRST, SECOND))
    rig.owner.take_work_news()
    rig.owner.note_silence(1_799.0, hold_s=1_800.0)
    assert rig.news() == []
    rig.owner.note_silence(1_800.0, hold_s=1_800.0)
    said = rig.owner.take_work_news()
    assert {(n.desired_state_id, n.state, n.cause) for n in said} == {
        (1, "holding", "silent"),
        (2, "holding", "silent"),
    }
    rig.owner.note_silence(1_900.0, hold_s=1_800.0)
    assert rig.news() == [], "once"
    rig.owner.ask()
    rig.plan()
    assert rig.news() == [(1, "settled"), (2, "settled")], "and what it is, once it is heard of"


def test_whether_gateways_tell_what_is_kept_is_said_of_each_row(rig):
    rig.owner.tells_saved[rig.first + np.array(FIRST.slots)] = True
    rig.desire(FIRST, SECOND)
    assert {n.desired_state_id: n.tells_saved for n in rig.owner.take_work_news()} == {1: True, 2: False}


def test_who_is_quarantined_is_told_slot_by_slot_where_work_is_scheduled(rig):
    bad = np.array([rig.first + 2], dtype=np.uint32)
    for _ in range(2):
        rig.owner.devices.failed(bad)
    assert rig.owner.memory()["quarantined_slots"] == []
    rig.owner.devices.failed(bad)
    assert rig.owner.memory()["quarantined_slots"] == [rig.first + 2]


def test_work_that_can_not_run_is_refused_for_its_own_sake_and_nothing_is_held_against_its_devices(rig):
    rig.desire(FIRST, SECOND)
    rig.news()
    unfit = np.array([rig.first + FIRST.slots[0]], dtype=np.uint32)
    for _ in range(3):
        rig.owner.give_up_work(unfit, "140 GiB need 140.0 GiB on each")
    [said] = rig.owner.take_work_news()
    assert (said.desired_state_id, said.state, said.cause) == (1, "refused", "work")
    assert said.reason == "140 GiB need 140.0 GiB on each"
    rig.owner.ask()
    rig.plan()
    assert rig.at(BATCH) == slots(SECOND), "the others stand, its own rest"
    assert rig.owner.devices.quarantined == {}
    rig.desire(FIRST, SECOND)
    assert (rig.news(), rig.at(BATCH)) == ([], slots(SECOND)), "as long as it is wanted all the same"


def test_a_device_that_did_not_settle_is_told_its_work_again(rig):
    rig.arrive(rig.desire(FIRST))
    rig.owner.devices.failed(np.array([rig.first + 2], dtype=np.uint32))
    rig.owner.ask()
    wave = rig.plan()
    assert [(m.from_state, m.to_state, m.slots.tolist()) for m in wave.plan.moves] == [(BATCH, BATCH, [rig.first + 2])]
    assert wave.command.assignments[0].work.workload_id == "work-1"


def test_a_start_that_fails_is_no_progress_however_often_it_is_taken_on(rig):
    wave = rig.desire(FIRST)
    rig.news()
    for _ in range(2):
        rig.acknowledge(wave)
        rig.owner.devices.failed(np.array([rig.first + 2], dtype=np.uint32))
        rig.owner.ask()
        wave = rig.plan()
    assert rig.news() == []


@pytest.mark.parametrize("mode", [ControlMode.AUTO, ControlMode.OBSERVE])
def test_what_loads_as_an_owner_takes_over_or_may_do_nothing_any_more_only_holds(rig, mode):
    rig.acknowledge(rig.desire(FIRST, SECOND))
    loads = np.zeros(600, dtype=bool)
    loads[rig.first + np.array(SECOND.slots)] = True
    second = Rig(clock=rig.clock, epoch=2, control_mode=mode, starting=loads, **rig.told())
    assert second.desire(FIRST, SECOND) is None
    assert second.news() == [(1, "settled"), (2, "holding")]
    second.owner.devices.settled(np.flatnonzero(loads).astype(np.uint32))
    second.owner.settle_work()
    assert second.news() == [(2, "settled")]
