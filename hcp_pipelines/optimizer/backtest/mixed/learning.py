"""The world of a window from recorded series: every model is learnt from before what it is asked about.

Miners' strikes are learnt once, before the window, unless the request says otherwise; reserves and peaks anew each month.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import partial

import numpy as np

from hcp_pipelines.forecasting import peaks
from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.hours import HOUR_US, Hours, instant, microseconds, published_at
from hcp_pipelines.optimizer.backtest import mpc, series
from hcp_pipelines.optimizer.backtest.case import Case, mining_course
from hcp_pipelines.optimizer.backtest.folder import Recorded
from hcp_pipelines.optimizer.backtest.mixed import ramps, reserves
from hcp_pipelines.optimizer.backtest.mixed.hours import hourly
from hcp_pipelines.optimizer.backtest.mixed.limits import ECO_WORTH, FULL_OVER_ECO_WORTH
from hcp_pipelines.optimizer.backtest.mixed.rules import is_plain_peak
from hcp_pipelines.optimizer.backtest.mixed.site import MixedSite
from hcp_pipelines.optimizer.backtest.mixed.world import World
from hcp_pipelines.optimizer.backtest.relearning import learnt_anew
from hcp_pipelines.optimizer.backtest.request import Request, case_of
from hcp_pipelines.optimizer.backtest.run import Progress
from hcp_pipelines.optimizer.backtest.series import Floats, Ints, SeriesError
from hcp_pipelines.optimizer.backtest.strategies import AlwaysOn, BreakEven, Strategy, chosen_hysteresis


def world_of(
    request: Request, recorded: Recorded, hours: Hours, site: MixedSite, followed: Sequence[Strategy]
) -> World:
    """The window of a request as a mixed facility meets it, whose miners may follow strategies (`followed`).

    Raises:
        ConfigError: there is too little to learn from.
    """
    steps, is_learnt = 60 // recorded.prices.step_minutes, _is_learnt(request)
    wholes = [case_of(request, recorded, group.efficiency_j_per_th) for group in site.groups]
    first = recorded.prices.row_at(request.start)
    cases = tuple(whole.cut(first, len(whole)) for whole in wholes)
    rows = hours.row_at(request.start) + np.arange(len(cases[0]) // steps)
    day_ahead, real_time = hourly(recorded.prices, recorded.day_ahead, hours, steps)
    parts = [
        (until, part, reserves.trained(hours, day_ahead, real_time, until) if is_learnt else None)
        for until, part in lessons(request, hours, rows)
    ]
    strikes = {strategy.name: tuple(strategy.strikes(whole).cut(first) for whole in wholes) for strategy in followed}
    chances = [peak_chances(hours, rows[part], site, until, is_learnt=is_learnt) for until, part, _ in parts]
    now, ahead, plain = (np.concatenate(column) for column in zip(*chances, strict=True))
    soon_h = ramps.seen_h(site) if is_learnt and ramps.bind(site, 1 / steps) else 0
    soon = [
        peaks.chances_before(hours, rows[part], ahead[part], site.peaks.months, until, soon_h)
        for until, part, _ in parts
    ]
    hashprice = hashprice_as_sold(request, recorded, hours, rows)
    worth = [
        mining_course(np.zeros(len(rows)), hashprice, group.efficiency_j_per_th).revenue_usd_per_mwh
        for group in site.groups
    ]
    forgone, without = (
        np.concatenate(
            [
                forgone_by_worth(model, hours, day_ahead, rows[part], [w[part] for w in worth], charge[part])
                for _, part, model in parts
            ],
            axis=2,
        )
        for charge in (ahead * site.peaks.usd_per_mw, np.zeros(len(rows)))
    )
    return World(
        site, cases, strikes, steps, np.nan_to_num(reserves.best_mcpc(hours)[rows]), hours.local_hour[rows], hours.day[rows],
        now, ahead, plain, np.where(peaks.peak_hours(hours, site.peaks.months)[rows], site.peaks.usd_per_mw, 0.0),
        forgone, without, np.concatenate(soon, axis=1),
    )  # fmt: skip


def lessons(request: Request, hours: Hours, rows: Ints) -> list[tuple[datetime, slice]]:
    """(learnt until, hours of the window): anew for each local month, from what was over as its first day's figures came.

    With an instant that the request names, nothing is learnt later.
    """
    if request.train_until is not None:
        return [(request.train_until, slice(0, len(rows)))]
    _, first = np.unique(hours.month[rows], return_index=True)
    ends = np.r_[first[1:], len(rows)]
    known = [instant(int(hours.starts_us[hours.ahead_rows[rows[n]]])) for n in first]
    return [
        (max(request.start, at) if n else request.start, slice(int(begin), int(end)))
        for n, (at, begin, end) in enumerate(zip(known, first, ends, strict=True))
    ]


def _is_learnt(request: Request) -> bool:
    """Whether anybody asks what is learnt of reserves and peaks, and `mpc`'s strikes."""
    return not request.strategies or "mpc" in request.strategies


def followed_by_miners(request: Request, recorded: Recorded, progress: Progress) -> list[Strategy]:
    """Whose strikes miners follow; `mpc` takes a minute to learn, and is left out where nobody asked for it."""

    def learn(training: Sequence[Case], until: datetime) -> list[Strategy]:
        found: list[Strategy] = [AlwaysOn(), BreakEven(), chosen_hysteresis(training, until)]
        if _is_learnt(request):
            found.append(mpc.trained(training, until, partial(progress, f"training {until:%Y-%m}")))
        return found

    found = learnt_anew(request, recorded, learn)
    for strategy in found:
        refuse_hindsight(strategy.name, strategy.trained_until, request.start)
    return found


def refuse_part_hours(request: Request, minutes: int) -> None:
    """Raise SeriesError for intervals of some minutes that don't divide the hour, or a window that isn't one of whole hours."""
    if 60 % minutes or microseconds(request.start) % HOUR_US or microseconds(request.end) % HOUR_US:
        raise SeriesError(
            f"a mixed facility needs whole hours: prices of {minutes} minutes, "
            f"{request.start:%H:%MZ} to {request.end:%H:%MZ}. "
            "Choose --from and --to at full hours, and prices whose intervals divide the hour."
        )


def peak_chances(
    hours: Hours, rows: Ints, site: MixedSite, until: datetime, *, is_learnt: bool = True
) -> tuple[Floats, Floats, np.ndarray]:
    """Probabilities when an hour begins and the day before, and the field's plain rule, for hours of the window."""
    charged, never = np.isin(hours.month_of_year[rows], site.peaks.months), np.zeros(len(rows))
    if not (charged.any() and is_learnt):
        return never, never, plain_peaks(hours, rows, charged) if charged.any() else charged
    return *peaks.chances(hours, rows, site.peaks.months, until), plain_peaks(hours, rows, charged)


def unknown_peaks(request: Request, hours: Hours, months: tuple[int, ...]) -> list[str]:
    """What a reader must know of the window's months (1 to 12) that would be charged for, and whose peak is not known."""
    inside = slice(hours.row_at(request.start), hours.row_at(request.end))
    unknown = np.setdiff1d(hours.month[inside], peaks.whole_months(hours)).tolist()
    recorded = np.isfinite(hours.load_mw)
    known_until = instant(int(hours.starts_us[np.flatnonzero(recorded)[-1]]) + HOUR_US) if recorded.any() else None
    return [
        f"peak of {month // 12}-{month % 12 + 1:02d} unknown, and the month not charged: demand of "
        f"{recorded[hours.month == month].sum()} of its {peaks.month_h(month)} hours is read"
        + (f", until {known_until:%Y-%m-%dT%H:%MZ}" if known_until else "")
        for month in unknown
        if month % 12 + 1 in months
    ]


def plain_peaks(hours: Hours, rows: Ints, charged: np.ndarray) -> np.ndarray:
    """The field's rule by hour of the window, known the day before."""
    share = np.full(len(rows), -1.0)
    found, _ = peaks.features(hours, hours.forecast_mw, hours.ahead_rows, rows[charged])
    share[charged] = np.nan_to_num(found[:, 0], nan=-1.0)
    _, first, number = np.unique(hours.day[rows], return_index=True, return_inverse=True)
    highest: Floats = np.maximum.reduceat(share, first)[number]
    return is_plain_peak(highest, hours.local_hour[rows], charged)


def forgone_by_worth(
    model: reserves.ForgoneModel | None,
    hours: Hours,
    day_ahead: Floats,
    rows: Ints,
    revenues: list[Floats],
    charge: Floats,
) -> Floats:
    """[worth, group, hour] what full over eco, and eco over sleep, forgo by staying on; `charge`: what a peak may add, $/MWh.

    Without a model it is not known, and nothing may be offered.
    """
    if model is None:
        return np.full((2, len(revenues), len(rows)), np.inf)
    return np.array(
        [
            [model.predict(hours, day_ahead, rows, worth * revenue - charge) for revenue in revenues]
            for worth in (FULL_OVER_ECO_WORTH, ECO_WORTH)
        ]
    )


def hashprice_as_sold(request: Request, recorded: Recorded, hours: Hours, rows: Ints) -> Floats:
    """The newest hashprice known as the reserves of each hour's local day are sold, 13:30 of the day before it.

    That of the last UTC day that was over then, or with the same day's known the day that had begun.
    """
    _, first, number = np.unique(hours.day[rows], return_index=True, return_inverse=True)
    sold_us = np.array([microseconds(published_at(instant(int(us)))) for us in hours.starts_us[rows[first]]])
    by_local_day = series.hashprice_of(
        recorded.hashprice, sold_us, recorded.files["network"], days_back=request.hashprice_days_back, is_carried=True,
    )  # fmt: skip
    return by_local_day[number]
