"""Random reserve and demand-response events on a simulated site: met at its revenue meter, or refused beforehand.

The owner that decides is the real one, the site is the real simulation, the clock is moved by hand; the judge is a second one
of ours that only reads the meter.
"""

from dataclasses import replace

import pytest

from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.policy.obligations import MET_FRACTION, Obligation, Signals, Status, refusal_of
from hcp_pipelines.policy.outlook import Outlook, not_on
from tests.support.ground import Ground

EVENTS = 200
PROGRAMMES = ["ECRS", "NSPIN", "ERS", "RRS", "DR-4CP", "DR"]


def random_event(ground, number):
    """Anything that a programme may ask, also what can't be had."""
    draw = ground.random
    start_s = ground.now_s + float(draw.uniform(1500, 2500))
    notice_s = float(draw.choice([30.0, 60.0, 180.0, 600.0, 1800.0]))
    mw = float(draw.uniform(0.02, 1.3)) * ground.inventory.capacity_mw
    obligation = Obligation(
        number, ground.inventory.facility_id, str(draw.choice(PROGRAMMES)), Status.AWARDED, mw,
        start_s, start_s + 5000.0, notice_s, float(draw.choice([300.0, 900.0])), 600.0,
    )  # fmt: skip
    deploy_s = start_s + float(draw.uniform(0, 600))
    recall_s = deploy_s + notice_s + float(draw.uniform(100, 800))
    return obligation, Signals(deploy_s, recall_s)


def refusal(ground, obligation, standing=()):
    """What an award says."""
    flexible, site = flexible_of(ground.inventory), ground.owner.site
    feeders = {group.group_id: group.feeder_id for group in ground.inventory.groups}
    outlook = Outlook(ground.now_s, ramps=site.ramps)
    return refusal_of(obligation, flexible, standing) or not_on(obligation, flexible, feeders, outlook, standing)


def run_event(ground, obligation, signals):
    """(status at the end, least that a second judge saw between the deadline and the end of the event)."""
    ground.take_on(obligation, signals)
    prices = ground.random.choice([-15.0, 30.0, 80.0, 400.0], size=40)
    before = least = None
    end_s = min(signals.recall_at_s, signals.deploy_at_s + obligation.notice_s + obligation.duration_s)
    while ground.now_s < end_s + 700.0:
        seen = ground.owner.obligations.obligations[obligation.obligation_id]
        if seen.status is Status.ARMED and ground.now_s <= signals.deploy_at_s:
            before = ground.meter_mw()
        meter = ground.advance(float(prices[int(ground.now_s / 300) % len(prices)]))
        if signals.deploy_at_s + obligation.notice_s <= ground.now_s <= end_s:
            share = (before - meter) / obligation.mw
            least = share if least is None else min(least, share)
    state = ground.owner.obligations.obligations[obligation.obligation_id]
    for _, written in ground.owner.obligations.to_write(0.0):
        ground.owner.obligations.written(written)
    ground.owner.obligations.take(Rows())
    return state, least


@pytest.mark.parametrize("seed", range(4))
def test_events_are_met_at_the_meter_or_refused_beforehand(seed):
    ground, met, refused = Ground(seed), 0, 0
    for number in range(1, EVENTS // 4 + 1):
        obligation, signals = random_event(ground, number)
        reason = refusal(ground, obligation)
        if reason:
            assert "can't be met" in reason or obligation.is_response
            refused += 1
            continue
        state, least = run_event(ground, obligation, signals)
        assert state.status in (Status.ARMED, Status.SETTLED), (state.reason, obligation)
        assert least is None or least >= MET_FRACTION, (least, obligation)
        met += 1
    assert met >= EVENTS // 16
    assert refused >= EVENTS // 16


@pytest.mark.parametrize("programme", ["RRS", "DR"])
def test_what_is_asleep_is_refused_now_could_not_have_been_met_and_is_met_once_it_can_be_on(programme):
    ground = Ground(8, ramp_mw=10.0)
    for _ in range(90):
        ground.advance(400.0)
    flexible = flexible_of(ground.inventory)
    feeders = {group.group_id: group.feeder_id for group in ground.inventory.groups}
    asleep = Outlook(ground.now_s, dict.fromkeys(feeders, 0.0), rise_s=600.0)
    start_s, mw = ground.now_s + 10.0, 0.5 * sum(f.mw for f in flexible)
    asked = Obligation(
        1, ground.inventory.facility_id, programme, Status.AWARDED, mw, start_s, start_s + 5000.0, 600.0, 900.0, 600.0
    )
    assert "0.00 MW of it can be on when it begins" in not_on(asked, flexible, feeders, asleep)
    state, _ = run_event(ground, asked, Signals(start_s + 10.0, start_s + 1500.0))
    assert state.status is Status.FAILED
    later = replace(asked, obligation_id=2, start_s=ground.now_s + 1000.0, end_s=ground.now_s + 6000.0)
    assert not_on(later, flexible, feeders, replace(asleep, now_s=ground.now_s)) == ""
    state, least = run_event(ground, later, Signals(later.start_s + 10.0, later.start_s + 1500.0))
    assert (state.status, least >= MET_FRACTION) == (Status.ARMED, True), state.reason


def test_what_was_refused_could_not_have_been_met():
    """The refusal is no excuse: without it the meter shows the failure."""
    ground = Ground(7)
    obligation, signals = random_event(ground, 1)
    flexible = flexible_of(ground.inventory)
    most = sum(f.mw for f in flexible)
    too_much = replace(obligation, mw=1.2 * most, notice_s=600.0)
    assert refusal_of(too_much, flexible)
    state, least = run_event(ground, too_much, replace(signals, recall_at_s=signals.deploy_at_s + 900.0))
    assert state.status is Status.FAILED
    assert least < MET_FRACTION
    assert "delivered" in state.reason
