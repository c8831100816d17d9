"""One facility: its owner, its simulated site, and whoever looks at the revenue meter. The clock is moved by hand."""

import numpy as np
from pyroaring import BitMap

from hcp_pipelines.allocator.decide import InForce, Limits
from hcp_pipelines.allocator.obligation_table import Rows
from hcp_pipelines.allocator.owner import Owner
from hcp_pipelines.domain.clock import ManualClock
from hcp_pipelines.fleet.site_export import world_site
from hcp_pipelines.policy.arrays import compile_policy
from hcp_pipelines.policy.obligations import Signals
from simulators.settings import SiteConfig
from tests.support import fleet
from tests.support.fleet import FIVE, NOON, row
from tests.support.world import make_site, script

LIMITS = Limits(power_staleness_s=900.0, bitcoin_staleness_s=1e9, hold_s=1800.0)
STEP_S = 10.0


class Ground:
    """One facility: its owner, its simulated site, and whoever looks at the meter."""

    def __init__(self, seed, ramp_mw=0.8, **changes):
        self.random = np.random.default_rng(seed)
        changes = {"ramps": (fleet.ramp("facility", ramp_mw),)} | changes
        self.inventory = fleet.inventory(**changes)
        self.clock, self.book = ManualClock(NOON), fleet.book(30.0)
        self.owner = Owner(fleet.site(**changes), 1, self.clock, LIMITS)
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

    def devices_mw(self):
        return float(self.site.power_w(self.now_s).sum()) / 1e6 * self.inventory.pue

    def slots(self, feeder_id):
        shape = self.owner.site.shape
        groups = [g for g, f in enumerate(shape.feeder_of_group) if f == feeder_id]
        return np.flatnonzero(np.isin(shape.group_of_slot, groups)).astype(np.uint32)

    def trip(self, feeder_id):
        """The relay opens; what the gateway makes of it follows with the next sample."""
        slots = self.slots(feeder_id)
        self.site.set_without_power(np.isin(np.arange(self.owner.site.shape.slots), slots))
        self.clock.advance(STEP_S)
        self.owner.obligations.advance(self.now_s, self.meter_mw(), self.devices_mw())
        self.owner.lose_power(slots, self.now_s)
        self._believe_down(slots)

    def relight(self, feeder_id):
        """Power is back; the gateway tells every device its lowest state, as soon as it has booted and answers."""
        slots = self.slots(feeder_id)
        self.site.set_without_power(np.zeros(self.owner.site.shape.slots, dtype=bool))
        while not self._tell_lowest(slots):
            self.clock.advance(STEP_S)
        self._believe_down(slots)
        self.owner.regain_power(slots, self.now_s)

    def _lowest(self, slots):
        shape = self.owner.site.shape
        return [(ladder[0], slots[shape.group_of_slot[slots] == g]) for g, ladder in enumerate(shape.ladders)]

    def _tell_lowest(self, slots):
        told = [self.site.set_state(state, BitMap(own.tolist()), self.now_s) for state, own in self._lowest(slots)]
        return not any(answer.refused for answer in told)

    def _believe_down(self, slots):
        for state, own in self._lowest(slots):
            self.owner.take_local(own, state, self.now_s)
        self.owner.ask()

    def advance(self, price):
        self.clock.advance(STEP_S)
        if self.now_s % 300 < STEP_S:
            self.tick_id += 1
            at = self.clock.now().replace(second=0, microsecond=0)
            self.book.take([row(self.tick_id, price, at)])
        if self.owner.obligations.advance(self.now_s, self.meter_mw(), self.devices_mw()):
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
