"""The strategy that learns: strikes from the expected value of being on. The model is in `optimizer.waiting`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.power_features import power_features
from hcp_pipelines.forecasting.price_paths import price_paths
from hcp_pipelines.optimizer.backtest.case import Case, Known
from hcp_pipelines.optimizer.backtest.oracle import value_of_on
from hcp_pipelines.optimizer.backtest.series import Floats
from hcp_pipelines.optimizer.backtest.simulate import Strikes
from hcp_pipelines.optimizer.band import Band
from hcp_pipelines.optimizer.waiting import Lesson, Outlook, WaitingModel, learn


@dataclass(frozen=True)
class Mpc:
    """Strikes from a model of what each interval comes to; the policy's guard bounds what a wrong one costs."""

    model: WaitingModel
    name: str = "mpc"
    is_guarded: bool = True

    @property
    def trained_until(self) -> datetime:
        """The model's."""
        return self.model.trained_until

    def strikes(self, case: Case) -> Strikes:
        """Off = r + Q/Δ and on = r − (c − Q)/Δ where the price is known; told late, the same around the last price.

        Told late the model predicts the present margin too, so that the strikes hold against the last price: off = p + W/Δ,
        on = p + (W − c)/Δ.
        """
        worth, wake_per_hour = self.model.predict(outlook_of(case)), case.known.wake_usd / case.step_h
        if case.model is Known.AT_START:
            return Strikes(
                *Band.of_worth(np.clip(worth, 0.0, 1.0)).around(case.known.revenue_usd_per_mwh, wake_per_hour)
            )
        return Strikes(*Band.of_worth(worth).around(case.known.price_usd_per_mwh, wake_per_hour))


def trained(
    cases: Sequence[Case], trained_until: datetime, progress: Callable[[int, int], None] = lambda *_: None
) -> Mpc:
    """The strategy, learnt from cases that ended by `trained_until`.

    Raises:
        ConfigError: there is nothing to learn from.
    """
    if not cases:
        raise ConfigError(
            f"mpc has nothing to learn from: no prices of two weeks or more before {trained_until:%Y-%m-%d}. "
            "Start or learn (--train-until) later, add a file with earlier prices (of any point), or leave mpc out (--strategy)."
        )
    return Mpc(learn((lesson_of(case) for case in cases), trained_until, progress))


def outlook_of(case: Case) -> Outlook:
    """What is known in a case, as the model sees it."""
    known, minutes = case.known.price_usd_per_mwh, round(case.step_h * 60)
    features = power_features(known, case.day_ahead, case.starts_us, minutes, case.delay)
    paths = price_paths(known, case.day_ahead, minutes, case.delay)
    return Outlook(features, paths, case.known.revenue_usd_per_mwh, case.known.wake_usd, case.step_h)


def lesson_of(case: Case) -> Lesson:
    """What each interval of a case came to in wakes, seen from its end: D_{t+1}, told late with the interval's own margin."""
    return Lesson(outlook_of(case), _came_to(case) / case.settled.wake_usd)


def _came_to(case: Case) -> Floats:
    ahead = value_of_on(case.settled, case.step_h)[1:]
    return ahead if case.model is Known.AT_START else ahead + case.settled.margin_usd_per_mwh * case.step_h
