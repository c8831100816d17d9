"""One asset under strikes: on or off interval by interval, with the policy's guard where it is asked for.

The rule is that of `policy.evaluate` with one block and of `policy.guard`, written for a hundred thousand intervals;
a test runs both over the same prices. Told late, which a live policy never is, the guard's books are of intervals that have
ended; the one under way is expected to earn what the last one did.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hcp_pipelines.optimizer.backtest.case import Case, LeastTimes
from hcp_pipelines.optimizer.backtest.series import Floats
from hcp_pipelines.policy.guard import BEHIND_MOST, DISTRUSTED_AT, TRUSTED_AT

Bools = npt.NDArray[np.bool_]
ORDER_USD_PER_MWH = 1e5  # a margin beyond any price: what must be on or off (`mixed.rules`), on nobody's account


@dataclass(frozen=True)
class Strikes:
    """Prices in $/MWh per interval: asleep, wake below `on`; on, stay up to `off`."""

    on: Floats
    off: Floats

    def cut(self, start: int) -> "Strikes":
        """From an interval on."""
        return Strikes(self.on[start:], self.off[start:])


@dataclass(frozen=True)
class Schedule:
    """Whether the asset is on in each interval, and where it was woken or put to sleep."""

    is_on: Bools
    starts_on: bool = True
    guarded: int = 0  # intervals in which the guard overruled the strikes

    @property
    def before(self) -> Bools:
        """Whether it was on just before each interval."""
        before: Bools = np.r_[self.starts_on, self.is_on[:-1]].astype(np.bool_)
        return before

    @property
    def wakes(self) -> Bools:
        """Intervals at whose start it was woken."""
        return self.is_on & ~self.before

    @property
    def sleeps(self) -> Bools:
        """Intervals at whose start it was put to sleep."""
        return ~self.is_on & self.before


def simulate(case: Case, strikes: Strikes, *, starts_on: bool = True, is_guarded: bool = False) -> Schedule:
    """What an asset does under strikes against the known price; where none is known yet it stays as it is.

    A case's least times go before strikes and guard: switched to a state it stays in it that long; what it starts in it may
    leave.
    """
    price = case.known.price_usd_per_mwh
    stays, wakes = ~(price > strikes.off), price < strikes.on
    if is_guarded:
        return _guarded(case, stays, wakes, starts_on)
    follow = _held(case.least) if case.least else _follow
    return Schedule(follow(stays, wakes, starts_on), starts_on)


def _held(least: LeastTimes) -> Callable[[Bools, Bools, bool], Bools]:
    """As `_follow`, no switch before its time."""

    def follow(stays: Bools, wakes: Bools, starts_on: bool) -> Bools:
        state, is_on = _Timed(starts_on, least), []
        for stay, wake in zip(stays.tolist(), wakes.tolist(), strict=True):
            is_on.append(state.turn(stay if state.is_on else wake))
        return np.array(is_on, dtype=np.bool_)

    return follow


def _follow(stays: Bools, wakes: Bools, starts_on: bool) -> Bools:
    """State by interval, without a loop: the last interval in which the answer did not depend on the state decides."""
    settles = stays == wakes
    at = np.maximum.accumulate(np.where(settles, np.arange(len(stays)), -1))
    is_on: Bools = np.where(at >= 0, stays[np.maximum(at, 0)], starts_on).astype(np.bool_)
    return is_on


def _guarded(case: Case, stays: Bools, wakes: Bools, starts_on: bool) -> Schedule:
    """As `_follow`, with the guard's accounts: ski rental in truth and on paper, and trust in the strikes."""
    real, paper, plain = (_Rental(_Timed(starts_on, case.least), case.delay > 0) for _ in range(3))
    gains, order = np.nan_to_num(case.known.margin_usd_per_mwh) * case.step_h, ORDER_USD_PER_MWH * case.step_h
    behind, is_distrusted, guarded, is_on = 0.0, False, 0, []
    for gain, wake_usd, stay, wake in zip(
        gains.tolist(), case.known.wake_usd.tolist(), stays.tolist(), wakes.tolist(), strict=True
    ):
        if abs(gain) >= order:
            for each in (real, paper, plain):
                each.state.turn(gain > 0)
            is_on.append(real.is_on)
            continue
        lead = paper.turn(gain, wake_usd, stay, wake) - plain.turn(gain, wake_usd, True, gain > 0)
        was_distrusted, wanted = is_distrusted, stay if real.is_on else wake
        behind = min(max(behind - (lead / wake_usd if wake_usd else 0.0), 0.0), BEHIND_MOST)
        is_distrusted = behind > TRUSTED_AT if is_distrusted else behind >= DISTRUSTED_AT
        real.turn(gain, wake_usd, is_distrusted or stay, gain > 0 if is_distrusted else wake)
        if was_distrusted and not is_distrusted:  # paper begins anew from the block as it is
            paper = replace(real, state=replace(real.state))
        guarded += real.asked is not wanted
        is_on.append(real.is_on)
    return Schedule(np.array(is_on, dtype=np.bool_), starts_on, guarded)


@dataclass
class _Timed:
    """On or off, and how many intervals it may not be switched for."""

    is_on: bool
    least: LeastTimes
    held: int = 0

    def turn(self, wanted: bool) -> bool:
        """One interval, in the state that is wanted or the one that it must stay in; which of them it is."""
        self.held = max(self.held - 1, 0)
        if not self.held and wanted is not self.is_on:
            self.is_on, self.held = wanted, self.least.on if wanted else self.least.off
        return self.is_on


@dataclass
class _Rental:
    """Ski rental of one asset: margins forgone asleep, losses of a spell awake, each against a wake's cost c.

    Told late, `gain` is of the interval before, and the one under way is expected to earn the same: it counts as forgone, too.
    Asleep in the k-th interval of a spell of gains g, F_{k−1} + g_{k−1} < c, so that F_k < c + g_k − g_{k−1} are forgone: less
    than a wake where margins persist. Awake it stays until what has ended has lost c: a spell of losses l costs L_k < c + l_k,
    less than c − l_1 + l_k beyond the field's rule, which can't avoid the first either: less than a wake where prices persist or
    fall, and after a jump what the jump is. Counting the one under way there, too, cost more than it kept (docs/decisions.md).
    """

    state: _Timed
    is_late: bool = False
    asked: bool = True  # what the guard lets of the strikes
    forgone: float = 0.0
    lost: float = 0.0

    @property
    def is_on(self) -> bool:
        """Now."""
        return self.state.is_on

    def turn(self, gain: float, wake_usd: float, stay: bool, wake: bool) -> float:
        """One interval with a margin of `gain` dollars; what it earned, told late what the one before it did."""
        was_on, under_way = self.is_on, gain if self.is_late else 0.0
        self.forgone = (self.forgone if was_on else self.forgone + gain) if gain > 0 else 0.0
        self.lost = (self.lost - gain if was_on else self.lost) if gain < 0 else 0.0
        must_wake = gain > 0 and self.forgone + under_way >= wake_usd > 0
        must_sleep = gain < 0 and self.lost >= wake_usd > 0
        self.asked = ((stay if was_on else wake) or must_wake) and not must_sleep
        is_on = self.state.turn(self.asked)
        earns = was_on if self.is_late else is_on
        return (gain if earns else 0.0) - (wake_usd if is_on and not was_on else 0.0)
