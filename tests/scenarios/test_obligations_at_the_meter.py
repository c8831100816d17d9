"""Random reserve and demand-response events on a simulated site: met at its revenue meter, or refused beforehand.

The owner that decides is the real one, the site is the real simulation, the clock is moved by hand; the judge is a second one
of ours that only reads the meter.
"""

from dataclasses import replace

import numpy as np
import pytest
from pyroaring import BitMap

from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.fleet.obligations import flexible_of
from hcp_pipelines.fleet.site_export import world_site
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.obligations import MET_FRACTION, Obligation, Signals, Status, refusal_of
from simulators.settings import SiteConfig
from tests.support import fleet
from tests.support.fleet import FIVE, NOON, row
from tests.support.world import make_site, script

LIMITS = Limits(power_staleness_s=900.0, bitcoin_staleness_s=1e9, hold_s=1800.0)
STEP_S = 10.0
EVENTS = 200


class Ground:
    """One facility: its owner, its simulated site, and whoever looks at the meter."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.inventory = fleet.inventory(ramps=(fleet.ramp("facility", 0.8),))
        self.clock, self.book = ManualClock(NOON), fleet.book(30.0)
        self.owner = Owner(fleet.site(ramps=(fleet.ramp("facility", 0.8),)), 1, self.clock, LIMITS)
        policy = fleet.policy(self.inventory, self.book)
        policy = policy.model_copy(update={"expires_at": NOON + 10_000 * FIVE})
        self.owner.follow(InForce(1, policy, compile_policy(policy)))
        self.site = make_site(script(), self.now_s, seed, SiteConfig.model_validate(world_site(self.inventory)))
        self.tick_id = 10
        for g, ladder in enumerate(self.owner.site.shape.ladders):
            self.site.set_state(
                ladder[-1], BitMap(np.flatnonzero(self.owner.site.shape.group_of_slot == g).tolist()), self.now_s
            )
        self.owner.devices.adopt(self.site.commanded.tobytes(), self.site.commanded.tobytes(), self.now_s)
        self.owner.is_ready = True
        self.signals: dict[int, Signals] = {}

    @property
    def now_s(self):
        return self.clock.now().timestamp()

    def meter_mw(self):
        return self.site.site_power_w(self.now_s) / 1e6

    def advance(self, price):
        self.clock.advance(STEP_S)
        if self.now_s % 300 < STEP_S:
            self.tick_id += 1
            at = self.clock.now().replace(second=0, microsecond=0)
            self.book.take([row(self.tick_id, price, at)])
        if self.owner.obligations.advance(self.now_s, self.meter_mw()):
            self.owner.ask()
        wave = self.owner.plan(self.book)
        if wave is not None:
            self.owner.take(wave)
            for move in wave.plan.moves:
                self.site.set_state(move.to_state, BitMap(move.slots.tolist()), self.now_s)
        return self.meter_mw()

    def take_on(self, obligation, signals):
        self.owner.obligations.take(Rows((obligation,), {obligation.obligation_id: signals}))
        self.owner.ask()


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
