"""Relay trips, base points and block demand response on a simulated site, at its revenue meter."""

from dataclasses import replace

import numpy as np
import pytest

from hcp_pipelines.allocator.obligation_table import BasePoint, Rows
from hcp_pipelines.allocator.standing import Lockout, Standing
from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.policy.obligations import MET_FRACTION, Obligation, Signals, Status
from tests.support import fleet
from tests.support.ground import Ground

CHEAP, DEAR = -15.0, 400.0
S21S = "feeder-s21"


def armed(ground, mw, notice_s=60.0, lasts_s=20_000.0):
    obligation = Obligation(
        1, ground.inventory.facility_id, "RRS", Status.AWARDED, mw, ground.now_s, ground.now_s + lasts_s, notice_s, 3600.0,
        600.0,
    )  # fmt: skip
    ground.take_on(obligation, Signals())
    run(ground, 60.0)
    assert status(ground) is Status.ARMED
    return obligation


def run(ground, seconds, price=CHEAP):
    """What the meter showed."""
    seen, end_s = [], ground.now_s + seconds
    while ground.now_s < end_s:
        seen.append(ground.advance(price))
    return seen


def status(ground):
    return ground.owner.obligations.obligations[1].status


def ground_of(seed, **changes):
    """Full load, the S21s on a feeder of their own."""
    plain = fleet.inventory()
    groups = tuple(replace(g, feeder_id=S21S) if g.group_id == "s21" else g for g in plain.groups)
    ground = Ground(
        seed, **{"groups": groups, "feeder_limits_mw": {"feeder-1": 1.5, "feeder-2": 0.2, S21S: 1.0}} | changes
    )
    run(ground, 1200.0)
    return ground


def band_price(ground):
    """A price at which an S21 that mines goes on, and one that is asleep is left asleep."""
    compiled = ground.owner.in_force.compiled
    values = compiled.index_values(ground.book.indices)[compiled.block_index]
    on, off = compiled.on_slope * values + compiled.on_offset, compiled.off_slope * values + compiled.off_offset
    top = max((n for n, key in enumerate(compiled.block_keys) if "s21" in key), key=lambda n: off[n])
    assert on[top] < off[top]
    return float((on[top] + off[top]) / 2)


def asleep(ground):
    slots, lows = ground.owner.devices.states, [ladder[0] for ladder in ground.owner.site.shape.ladders]
    return int((slots == np.array(lows, dtype=np.uint8)[ground.owner.site.shape.group_of_slot]).sum())


def test_a_relay_trip_delivers_is_no_failure_and_nothing_is_refilled_until_power_returns():
    ground = ground_of(1)
    feeder_id, before_mw = S21S, ground.meter_mw()
    sold_mw = 0.65
    armed(ground, sold_mw)
    ground.trip(feeder_id)
    low_mw = ground.meter_mw()
    assert before_mw - low_mw >= sold_mw
    meter = run(ground, 900.0)
    assert status(ground) is Status.DEPLOYED
    assert ground.owner.obligations.obligations[1].reason == "shed_by_relay"
    assert max(meter) <= low_mw * 1.02, "nothing is driven again, nothing is woken for it"
    assert min(meter) >= low_mw * 0.98, "and nothing more is taken: what was sold is delivered"
    assert ground.owner.devices.quarantined == {}
    assert ground.owner.obligations.lacking_mw(ground.now_s, 0.0) == 0.0
    ground.relight(feeder_id)
    back = run(ground, 4000.0)
    seen = ground.owner.obligations.obligations[1]
    assert (seen.status, seen.reason) == (Status.ARMED, "met")
    assert seen.delivery.least >= MET_FRACTION
    assert back[-1] >= 0.98 * before_mw, "what mined before mines again"


def test_what_mined_before_mines_again_even_where_the_price_would_wake_nobody():
    ground = ground_of(10)
    price, slots = band_price(ground), ground.slots(S21S)
    run(ground, 300.0, price)
    assert (ground.owner.devices.states[slots] != 0).all()
    ground.trip(S21S)
    run(ground, 300.0, price)
    ground.relight(S21S)
    assert (ground.owner.devices.states[slots] == 0).all()
    run(ground, 1200.0, price)
    assert (ground.owner.devices.states[slots] != 0).all()


def test_devices_without_power_are_not_commanded_whatever_they_were_told_before():
    ground = ground_of(11)
    slots = ground.slots(S21S)
    ground.owner.devices.dark[slots] = True
    run(ground, 900.0, DEAR)
    assert (ground.owner.devices.states[slots] == 3).all()
    assert asleep(ground) >= 300, "the other miners went to sleep"


def test_after_power_returns_the_load_comes_back_in_waves_under_the_ramps():
    ground = ground_of(2, ramp_mw=0.3)
    feeder_id, full_mw = S21S, ground.meter_mw()
    ground.trip(feeder_id)
    run(ground, 600.0)
    dark_mw = ground.meter_mw()
    ground.relight(feeder_id)
    back = run(ground, 6000.0)
    per_window = 300.0 / 10.0
    rises = [back[n] - back[max(n - int(per_window), 0)] for n in range(len(back))]
    assert full_mw - dark_mw > 0.65, "it takes several windows"
    assert max(rises) <= 0.3 * 1.1 + 0.01
    assert back[-1] >= 0.98 * full_mw


def test_a_recall_by_signal_during_a_trip_wakes_nobody_while_power_is_away():
    ground = ground_of(3)
    feeder_id = S21S
    obligation = armed(ground, 0.2)
    ground.trip(feeder_id)
    run(ground, 300.0)
    recalled = Signals(None, ground.now_s)
    ground.owner.obligations.take(Rows((obligation,), {1: recalled}))
    low_mw = ground.meter_mw()
    assert max(run(ground, 1500.0)) <= low_mw * 1.02
    ground.relight(feeder_id)
    assert run(ground, 4000.0)[-1] > low_mw


def test_a_feeder_that_is_locked_out_holds_the_rest_no_longer():
    ground = ground_of(4)
    feeder_id = S21S
    run(ground, 600.0, DEAR)
    others_asleep = asleep(ground)
    ground.trip(feeder_id)
    run(ground, 1800.0)
    assert asleep(ground) >= others_asleep, "nothing rises, although the price is low"
    locked = np.isin(np.arange(ground.owner.site.shape.slots), ground.slots(feeder_id))
    ground.owner.stand(Standing(lockouts=(Lockout(1, "bob", "a cable", "feeder", feeder_id),)))
    run(ground, 4000.0)
    shape = ground.owner.site.shape
    miners = np.isin(shape.group_of_slot, [g for g, t in enumerate(ground.owner.site.group_types) if t == "ASIC"])
    assert (ground.owner.devices.states[miners & ~locked] == 3).mean() > 0.9


def test_the_load_comes_to_a_base_point_within_five_minutes_and_economics_stay_below_it():
    ground = ground_of(5, dispatch_regime=DispatchRegime.CLR_BASE_POINT)
    full_mw = ground.meter_mw()
    for share in (0.7, 0.4, 0.85):
        point_mw = share * full_mw
        ground.owner.obligations.take(Rows((), {}, BasePoint(7, point_mw, ground.now_s, "operator/ann")))
        ground.owner.ask()
        run(ground, 300.0)
        held = run(ground, 500.0)
        assert max(held) <= point_mw * 1.01, share
    risen = run(ground, 1500.0)
    assert risen[-1] >= 0.98 * full_mw, "a base point that is 15 minutes old holds no longer"


def test_base_points_are_not_for_facilities_that_follow_their_own_ticks():
    ground = ground_of(6)
    full_mw = ground.meter_mw()
    ground.owner.obligations.take(Rows((), {}, BasePoint(7, 0.3 * full_mw, ground.now_s, "operator/ann")))
    ground.owner.ask()
    assert min(run(ground, 300.0)) >= 0.98 * full_mw


@pytest.mark.parametrize("overhead", [1.15, 0.9])
def test_an_event_is_met_at_a_meter_that_reads_other_than_plans_reckon(overhead):
    """In a heat wave, or with cooling that idles, the meter is not the sum of the devices at the file's PUE."""
    ground = ground_of(7)
    plain = ground.meter_mw
    ground.meter_mw = lambda: plain() * overhead
    obligation = armed(ground, 0.8)
    deploy_s = ground.now_s + 100.0
    ground.owner.obligations.take(Rows((obligation,), {1: Signals(deploy_s, deploy_s + 900.0)}))
    run(ground, 2500.0)
    seen = ground.owner.obligations.obligations[1]
    assert (seen.status, seen.reason) == (Status.ARMED, "met")
    assert MET_FRACTION <= seen.delivery.least <= 1.35


def test_load_that_is_sold_in_blocks_does_not_follow_prices_and_keeps_its_promise():
    ground = ground_of(8, dispatch_regime=DispatchRegime.BLOCK_DR)
    static = run(ground, 1800.0, CHEAP)[-1]
    assert run(ground, 1800.0, DEAR)[-1] == pytest.approx(static, rel=0.01)
    reasons = ground.owner.site.fallback
    assert set(reasons) == set(ground.owner.site.shape.group_ids)


def test_armed_without_load_is_told_once():
    ground = ground_of(9)
    obligation = armed(ground, 0.5)
    book, floor_mw = ground.owner.obligations, ground.owner.obligations.floor_mw()
    assert floor_mw == obligation.mw
    told = [book.lacking_mw(ground.now_s + n * 600.0, 0.1) for n in range(6)]
    assert [mw for mw in told if mw] == [pytest.approx(floor_mw - 0.1)]
    assert told[0] == 0.0, "waking takes its time"
    assert book.lacking_mw(ground.now_s + 4000.0, floor_mw) == 0.0
    again = [book.lacking_mw(ground.now_s + 4000.0 + n * 600.0, 0.1) for n in range(6)]
    assert sum(mw > 0 for mw in again) == 1
