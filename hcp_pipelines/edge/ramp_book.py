"""The load changes of a facility as its gateway saw them, whoever asked: what is left of the ramps when it acts alone."""

from collections import deque
from collections.abc import Callable
from datetime import datetime

import numpy as np
import numpy.typing as npt

from hcp_pipelines.domain.clock import SystemClock
from hcp_pipelines.domain.modes import STATE_COUNT
from hcp_pipelines.edge.config import FacilityConfig
from hcp_pipelines.edge.shape import SiteShape
from hcp_pipelines.policy.ramps import Headroom, RampLedger
from hcp_pipelines.policy.schema import RampLimit
from hcp_pipelines.policy.waves import FacilityShape
from hcp_pipelines.wire.slots import Slots

States = npt.NDArray[np.uint8]


def policy_shape(config: FacilityConfig, site: SiteShape) -> FacilityShape:
    """The facility in the words of `policy`."""
    power_mw = np.zeros((len(config.groups), STATE_COUNT))
    for g, group in enumerate(config.groups):
        for step in group.ladder:
            power_mw[g, step.state] = step.power_kw * group.pue / 1000
    return FacilityShape(
        facility_id=config.facility_id,
        generation=config.generation,
        group_ids=site.group_ids,
        feeder_of_group=tuple(group.feeder_id for group in config.groups),
        ladders=tuple(tuple(int(s.state) for s in sorted(g.ladder, key=lambda s: s.power_kw)) for g in config.groups),
        group_of_slot=site.group_of_slot,
        power_mw=power_mw,
    )


class RampBook:
    """Bookings by feeder, simulated time. What is only noted is booked before anybody asks what is left."""

    def __init__(self, config: FacilityConfig, site: SiteShape) -> None:
        self.shape, self._site = policy_shape(config, site), site
        limits = [RampLimit(scope=r.scope, up_mw=r.up_mw, down_mw=r.down_mw, window_s=r.window_s) for r in config.ramps]
        self.window_s = max((limit.window_s for limit in limits), default=0.0)
        self._ledger = RampLedger(limits)
        self._noted: deque[tuple[float, Slots, States, int]] = deque()
        self._feeders, feeder_of_group = np.unique(self.shape.feeder_of_group, return_inverse=True)
        self._feeder_of_slot = feeder_of_group[site.group_of_slot]

    def headroom(self, now_s: float) -> Headroom:
        """What may still change."""
        self.book_noted()
        return self._ledger.headroom(now_s)

    def note(self, now_s: float, slots: Slots, before: States, state: int) -> None:
        """Devices were told another state: `book_noted` counts them, when there is time."""
        if self.window_s:
            self._noted.append((now_s, slots, before, state))

    def book_noted(self) -> None:
        """Count what was noted."""
        while self._noted:
            self.book(*self._noted.popleft())

    def book(self, now_s: float, slots: Slots, before: States, state: int) -> None:
        """Count devices that were told another state."""
        if self.window_s:
            self._ledger.book(now_s, self.deltas(slots, before, state))

    def deltas(self, slots: Slots, before: States, state: int) -> dict[str, float]:
        """All-in MW by feeder of devices that change from one state each into another."""
        site = self._site
        kw = (site.state_kw(slots, state) - site.state_kw(slots, before)) * site.pue_of_slot[slots]
        by_feeder = np.bincount(self._feeder_of_slot[slots], weights=kw, minlength=len(self._feeders)) / 1000
        return dict(zip(self._feeders.tolist(), by_feeder.tolist(), strict=True))


def book_of(book: RampBook, clock: SystemClock) -> Callable[[str, Slots, States, int], None]:
    """Takes the changes that a log tells, in its order: those of the last window are counted.

    A log has real instants; what was stored so many real seconds ago was as many times the clock's speed ago.
    """
    now_s, real_now = clock.now().timestamp(), clock.real_now()

    def take(stored_at: str, slots: Slots, before: States, state: int) -> None:
        if not book.window_s or not stored_at:
            return
        ago_s = max((real_now - datetime.fromisoformat(stored_at)).total_seconds(), 0.0) * clock.speed
        if ago_s < book.window_s:
            book.book(now_s - ago_s, slots, before, state)

    return take
