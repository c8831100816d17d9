"""When inputs are too old to act on: hold, then the fallback plan, then recovery (DESIGN §7.4). Pure.

Holds are counted from the instants of the data, not from when this process noticed, so that a successor agrees.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

from hcp_pipelines.domain.modes import ReasonCode

GOOD_VALUES_TO_RECOVER = 2


class Phase(IntEnum):
    """What may be done."""

    NORMAL = 0
    HOLD = 1
    FALLBACK = 2


@dataclass(frozen=True, slots=True)
class InputAges:
    """Simulated Unix seconds at which each input stops (or stopped) being good; `values_seen` counts good LMPs."""

    price_stale_at_s: float
    policy_expires_at_s: float
    values_seen: int
    stale_before_s: float = math.inf  # since when, where the newest LMP is the first after too long a silence


@dataclass(frozen=True, slots=True)
class Step:
    """The phase now, its reason, and whether it has just changed."""

    phase: Phase
    reason: ReasonCode
    has_changed: bool


class InputHealth:
    """Follows the inputs of one facility."""

    def __init__(self) -> None:
        self.phase = Phase.NORMAL
        self.reason = ReasonCode.ECONOMICS
        self._values_when_bad: int | None = None
        self._since_s = math.inf  # when the inputs that have not recovered yet went bad

    def assess(self, now_s: float, ages: InputAges, hold_s: float) -> Step:
        """The step at a simulated instant."""
        is_stale = ages.price_stale_at_s <= now_s
        causes = (
            (min(ages.price_stale_at_s, ages.stale_before_s) if is_stale else math.inf, ReasonCode.HOLD_STALE_PRICE),
            (ages.policy_expires_at_s, ReasonCode.POLICY_EXPIRED),
        )
        since_s, cause = min(((s, c) for s, c in causes if s <= now_s), default=(math.inf, None))
        if is_stale:
            self._values_when_bad = ages.values_seen
        elif self._values_when_bad is None and math.isfinite(ages.stale_before_s):  # nobody looked while it was stale
            self._values_when_bad = ages.values_seen - 1
        if cause is None and self._is_well(ages.values_seen):
            return self._recover()
        self._since_s = min(self._since_s, since_s)
        if now_s >= self._since_s + hold_s:
            return self._enter(Phase.FALLBACK, ReasonCode.FALLBACK_PLAN)
        return self._enter(Phase.HOLD, cause or ReasonCode.HOLD_STALE_PRICE)

    def _is_well(self, values_seen: int) -> bool:
        return self._values_when_bad is None or values_seen >= self._values_when_bad + GOOD_VALUES_TO_RECOVER

    def _recover(self) -> Step:
        self._values_when_bad, self._since_s = None, math.inf
        if self.phase is Phase.NORMAL:
            return Step(Phase.NORMAL, ReasonCode.ECONOMICS, has_changed=False)
        self._enter(Phase.NORMAL, ReasonCode.ECONOMICS)
        return Step(Phase.NORMAL, ReasonCode.RECOVERY, has_changed=True)

    def _enter(self, phase: Phase, reason: ReasonCode) -> Step:
        has_changed = phase is not self.phase
        self.phase, self.reason = phase, reason
        return Step(phase, reason, has_changed)
