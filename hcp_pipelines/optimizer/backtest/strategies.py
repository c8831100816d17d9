"""Strategies behind one protocol: strikes per interval against the known price, the policy's own form (DESIGN §6).

On, an asset stays while the known price is at most `off`; asleep, it wakes when the price is below `on`. The learnt
strategy is in `mpc.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import numpy as np

from hcp_pipelines.optimizer.backtest.case import Case, Known
from hcp_pipelines.optimizer.backtest.oracle import best_turns
from hcp_pipelines.optimizer.backtest.simulate import Strikes, simulate
from hcp_pipelines.optimizer.band import PLAIN, Band

WAKE_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
SLEEP_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
LATE_SLEEP_SHARES = (*SLEEP_SHARES, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 100.0)  # told late, it pays to sit out most peaks


class Strategy(Protocol):
    """What decides, from a case's `known`, `starts_us` and `day_ahead`. The oracle alone looks at `settled`."""

    @property
    def name(self) -> str:
        """As the command line spells it."""
        ...

    @property
    def is_guarded(self) -> bool:
        """Whether the policy's guard watches it."""
        ...

    @property
    def trained_until(self) -> datetime | None:
        """Nothing that was known later is in it; None where nothing was learnt."""
        ...

    def strikes(self, case: Case) -> Strikes:
        """Strikes of every interval of a case."""
        ...


@dataclass(frozen=True)
class AlwaysOn:
    """Never sleeps."""

    name: str = "always_on"
    is_guarded: bool = False
    trained_until: datetime | None = None

    def strikes(self, case: Case) -> Strikes:
        """No price is too high."""
        return Strikes(np.full(len(case), np.inf), np.full(len(case), np.inf))


@dataclass(frozen=True)
class BreakEven:
    """The field's rule: on exactly where the known margin is above zero."""

    name: str = "break_even"
    is_guarded: bool = False
    trained_until: datetime | None = None

    def strikes(self, case: Case) -> Strikes:
        """Both strikes at the revenue; at a margin of zero it sleeps."""
        revenue = case.known.revenue_usd_per_mwh
        return Strikes(revenue, np.nextafter(revenue, -np.inf))


@dataclass(frozen=True)
class Hysteresis:
    """Sleeps when the margin is below −`sleep_share`·c/Δ, wakes when it is above `wake_share`·c/Δ (c: a wake of one MW)."""

    wake_share: float = PLAIN.wake_share
    sleep_share: float = PLAIN.sleep_share
    name: str = "hysteresis"
    is_guarded: bool = False
    trained_until: datetime | None = None

    def strikes(self, case: Case) -> Strikes:
        """A band around the revenue."""
        revenue, per_hour = case.known.revenue_usd_per_mwh, case.known.wake_usd / case.step_h
        shares = (np.full(len(case), share) for share in (self.wake_share, self.sleep_share))
        return Strikes(*Band(*shares).around(revenue, per_hour))


@dataclass(frozen=True)
class Oracle:
    """Perfect foresight: the yardstick. It starts on and leaves its end state free."""

    name: str = "oracle"
    is_guarded: bool = False
    trained_until: datetime | None = None

    def strikes(self, case: Case) -> Strikes:
        """Never a band: at each interval the one action that is best, as a strike above or below the known price."""
        stays, wakes = best_turns(case)
        return Strikes(np.where(wakes, np.inf, -np.inf), np.where(stays, np.inf, -np.inf))


def chosen_hysteresis(training: Sequence[Case], trained_until: datetime) -> Hysteresis:
    """The one band that earns most over the training cases, each case's dollars in wakes; without cases the policy's own band.

    One band for all efficiencies: a band each is over-fitted (OPTIMIZER §1).
    """
    cases = [case for case in training if len(case)]
    if not cases:
        return Hysteresis()
    sleep_shares = SLEEP_SHARES if cases[0].model is Known.AT_START else LATE_SLEEP_SHARES
    bands = [Hysteresis(wake, sleep) for wake in WAKE_SHARES for sleep in sleep_shares]
    best = max(bands, key=lambda band: sum(_in_wakes(band, case) for case in cases))
    return replace(best, trained_until=trained_until)


def _in_wakes(band: Hysteresis, case: Case) -> float:
    on = simulate(case, band.strikes(case))
    gain = case.settled.margin_usd_per_mwh * case.step_h * on.is_on
    return float((gain / case.settled.wake_usd).sum() - on.wakes.sum())
