"""Random reserve and demand-response events on a simulated site: met at its revenue meter, or refused beforehand.

The owner that decides is the real one, the site is the real simulation, the clock is moved by hand; the judge is a second one
of ours that only reads the meter.
"""

from dataclasses import replace

import pytest

from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.policy.obligations import MET_FRACTION, Obligation, Signals, Status, refusal_of
from tests.support.ground import Ground

EVENTS = 200


def random_event(ground, number):
    """Anything that a programme may ask, also what can't be had."""
    draw = ground.random
    start_s = ground.now_s + float(draw.uniform(1500, 2500))
    notice_s = float(draw.choice([30.0, 60.0, 180.0, 600.0, 1800.0]))
    mw = float(draw.uniform(0.02, 1.3)) * ground.inventory.capacity_mw
    obligation = Obligation(
        number, ground.inventory.facility_id, str(draw.choice(["ECRS", "NSPIN", "ERS", "RRS"])), Status.AWARDED, mw,
        start_s, start_s + 5000.0, notice_s, float(draw.choice([300.0, 900.0])), 600.0,
    )  # fmt: skip
    deploy_s = start_s + float(draw.uniform(0, 600))
    recall_s = deploy_s + notice_s + float(draw.uniform(100, 800))
    return obligation, Signals(deploy_s, recall_s)


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
        reason = refusal_of(obligation, flexible_of(ground.inventory))
        if reason:
            assert "can't be met" in reason
            refused += 1
            continue
        state, least = run_event(ground, obligation, signals)
        assert state.status in (Status.ARMED, Status.SETTLED), (state.reason, obligation)
        assert least is None or least >= MET_FRACTION, (least, obligation)
        met += 1
    assert met >= EVENTS // 16
    assert refused >= EVENTS // 16


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
