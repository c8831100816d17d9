"""The policy that a facility follows: guard accounts, the phase of its inputs, and what a predecessor handed over.

What it wants is worked out in `decide`; what is done of it is the owner's to say.
"""

from datetime import datetime

import numpy as np

from hcp_pipelines.allocator import metrics
from hcp_pipelines.allocator.decide import NO_POLICY, InForce, LastPolicy, Limits, Wanted, input_ages, static_plan, want
from hcp_pipelines.allocator.health import InputHealth, Phase, Step
from hcp_pipelines.allocator.market import Latest, MarketBook
from hcp_pipelines.allocator.memory import Memory, guard_of
from hcp_pipelines.allocator.site import Site
from hcp_pipelines.domain.modes import DispatchRegime
from hcp_pipelines.policy.arrays import Floats, Ints
from hcp_pipelines.policy.guard import GuardState


class Following:
    """The policy in force, and its accounts."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.in_force: InForce | None = None
        self.guard: GuardState | None = None
        self._health = InputHealth()
        self._guarded_at_s: float | None = None
        self._inherited: Memory = {}
        self._last = NO_POLICY

    def follow(self, in_force: InForce) -> None:
        """Put an admitted policy in force."""
        self.in_force = in_force
        if self.guard is None:
            self.guard = guard_of(self._inherited, in_force.compiled)
        self.guard = self.guard.carried_to(in_force.compiled)

    def inherit(self, memory: Memory, last: LastPolicy) -> None:
        """Go on from what a predecessor knew, and from the policy that it took last."""
        self._inherited, self._last = memory, last

    @property
    def newest_basis(self) -> int:
        """The newest tick on which a policy rested that was in force here, this owner's or a predecessor's; 0 where none was."""
        own = self.in_force.policy.basis_tick_id if self.in_force else 0
        return max(own, self._last.basis_tick_id)

    @property
    def expires_at_s(self) -> float:
        """When the last policy in force here stops being good, or of a predecessor: Unix seconds; infinite where none was."""
        if self.in_force is not None:
            return self.in_force.policy.expires_at.timestamp()
        return self._last.expires_at_s

    def with_guard(self, memory: Memory) -> Memory:
        """What a successor should know: the accounts that were inherited, as long as there are no newer ones."""
        return memory if self.guard is not None else memory | {"guard": self._inherited.get("guard", {})}

    def newest_tick(self, site: Site, book: MarketBook) -> Latest | None:
        """The newest tick that means something here."""
        names = self.in_force.compiled.index_names if self.in_force else ()
        return book.tick_for(site.settlement_point, names)

    def revenue(self, site: Site, book: MarketBook) -> Floats:
        """[g, s] $/h of one device at the present indices; zeros without a policy."""
        if self.in_force is None:
            return np.zeros_like(site.shape.power_mw)
        return self.in_force.compiled.revenue_usd_per_hour(book.indices)

    def want(self, site: Site, book: MarketBook, present: Ints, now: datetime) -> Wanted | None:
        """What to do now, with the accounts brought up to date; None where nothing may be done, or nothing says what."""
        if site.dispatch_regime is DispatchRegime.BLOCK_DR:
            return static_plan(site, book, present)
        if self.in_force is None and book.power(site.settlement_point) is None:
            return None  # nothing has begun yet
        now_s = now.timestamp()
        step = self._assess(site, book, now_s)
        if self.in_force is None:
            return static_plan(site, book, present) if step.phase is Phase.FALLBACK else None
        guard = self.guard or GuardState.empty(self.in_force.compiled)
        since_s = now_s if self._guarded_at_s is None else self._guarded_at_s
        elapsed_h = max(now_s - since_s, 0.0) / 3600
        wanted = want(site, self.in_force, book, present, now, guard, elapsed_h, step)
        self._guarded_at_s = now_s  # a hold is on nobody's account
        if step.phase is Phase.NORMAL and wanted is not None and wanted.guard is not None:
            self.guard = wanted.guard
        return wanted

    def _assess(self, site: Site, book: MarketBook, now_s: float) -> Step:
        """The phase of the facility's inputs at a simulated instant."""
        ages = input_ages(site, self.in_force, self.expires_at_s, book, self.limits)
        step = self._health.assess(now_s, ages, self.limits.hold_s)
        metrics.PHASE.labels(site.facility_id).set(int(step.phase))
        return step
