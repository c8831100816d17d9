"""The chance that an hour is its month's peak, as it or one before it begins: counted over ways in which day and month may go on.

Demand of the day's hours that are left errs from its forecast as it did on like days; so does tomorrow's highest, once its
forecasts are out; the days after it go as the weeks after like days went. An hour is the peak if nothing was higher in the
month so far and nothing comes that is. So chances add up to about one a month by themselves. Nothing is read here.
"""

from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np

from hcp_pipelines.forecasting.hindsight import refuse_hindsight
from hcp_pipelines.forecasting.hours import Floats, Hours, Ints, instant
from hcp_pipelines.forecasting.peak_days import (
    HIGH_HOURS,
    Days,
    day_of_year,
    days_of,
    is_weekend,
    regressed,
    with_made_up,
)

FIRST_HOUR, LAST_HOUR = HIGH_HOURS.start, HIGH_HOURS.stop - 1
FIRST_ASKED = FIRST_HOUR - 6  # before it the day ahead is no clearer than the day before
ALIKE_DAYS = 30  # about the middle of the month: 2022 learnt from 2023 and the other way, better than 45 and 60
LEVEL_DAYS = 30
MONTH_DAYS = 31
LEAST_DAYS = 40
WIDER = 1.5  # than errors were on days that were learnt from: two seasons, with forecasts that are mostly made up


@dataclass(frozen=True)
class Rest:
    """How the rest of a day follows from what is known as an hour begins; `errors`: [like day, hour or tomorrow's highest]."""

    by_hour: tuple[Floats, ...]
    tomorrow: Floats
    errors: Floats


@dataclass(frozen=True)
class Paths:
    """Learnt for one month of the year: how daily highs go on, and the rest of a day by the hour that begins."""

    weekend: float  # what daily highs of weekends lie above those of working days, in logarithms
    kept: Floats  # [31] share of today's deviation that is left after 1, 2, … days
    deviations: Floats  # [like day, 31] of the days after it from that
    rests: tuple[Rest, ...]  # by hour from FIRST_ASKED on

    def chance(self, days: Days, day: int, hour: int, later: int = 0) -> float:
        """Of the hour that begins so many hours after another, as that one begins, given by its day's row and local hour.

        NaN where the last hours' demand is not known, or the hour asked in lies before any that was learnt.
        """
        if not FIRST_HOUR <= hour + later <= LAST_HOUR:
            return 0.0
        if hour < FIRST_ASKED:
            return np.nan
        rest, left = self.rests[hour - FIRST_ASKED], _days_left(int(days.number[day]))
        columns = _columns(days, np.array([day]), hour)[:, 0]
        foretold = days.load[day, hour - 1] + np.einsum("jk,jk->j", columns, np.array(rest.by_hour))
        level = _level(days, day, self.weekend)
        if not (np.isfinite(foretold).all() and np.isfinite(level)):
            return np.nan
        drawn = foretold + rest.errors[:, :-1]  # [like day, hour]
        here, is_highest = drawn[:, later], drawn[:, later] >= drawn.max(axis=1)
        wins = is_highest & (here > _highest_so_far(days, day, hour))
        if not left or not wins.any():
            return float(wins.mean())
        last, ahead = here, 0  # the newest of the highs on a path, and of which day
        if _is_published(days, day + 1, int(days.row[day, hour])):
            last, ahead = self._tomorrow(days, day, hour), 1
            wins &= last < here
        stays = np.zeros(len(here))
        stays[wins] = self._stays_highest(days, (day, ahead, left), level, np.stack([here, last])[:, wins])
        return float(stays.mean())

    def _tomorrow(self, days: Days, day: int, hour: int) -> Floats:
        """[like day] tomorrow's highest, from its forecast."""
        rest = self.rests[hour - FIRST_ASKED]
        error = days.load[day, hour - 1] - days.forecast[day, hour - 1]
        found: Floats = days.forecast_high[day + 1] + rest.tomorrow @ np.array([error, 1.0]) + rest.errors[:, -1]
        return found

    def _stays_highest(self, days: Days, at: tuple[int, int, int], level: float, highs: Floats) -> Floats:
        """Share of the ways on in which no day after the newest known high comes above `highs[0]`; `highs[1]`: the newest."""
        day, ahead, left = at
        count = left - ahead
        if not count:
            return np.ones(highs.shape[1])
        to_come = days.number[day] + np.arange(ahead, left + 1)
        usual = is_weekend(to_come) * self.weekend + level
        away = highs[1] - usual[0]
        paths = usual[1:] + away[:, None, None] * self.kept[:count] + self.deviations[:, :count]
        share: Floats = (paths.max(axis=2) < highs[0][:, None]).mean(axis=1)
        return share


def chances_begun(hours: Hours, rows: Ints, until: datetime, later: int = 0) -> Floats:
    """The chance of each hour as it, or the one so many hours before it, begins; learnt from what ended before `until`.

    NaN where that, or what is known, is too little, and where the hour before it is of another day.

    Raises:
        TrainedTooLateError: an hour wanted begins before `until`.
    """
    found = np.full(len(rows), np.nan)
    if not len(rows):
        return found
    refuse_hindsight("the paths of demand", until, instant(int(hours.starts_us[rows.min()])))
    past = _cut(hours, hours.row_at(until))
    forecast = with_made_up(past)
    if forecast is None:
        return found
    learnt_from, days = days_of(past, forecast), days_of(hours, hours.forecast_mw)
    day_of = np.searchsorted(days.number, hours.day[rows])
    for month in np.unique(hours.month_of_year[rows]):
        paths = trained(learnt_from, int(month))
        if paths is None:
            continue
        for n in np.flatnonzero(hours.month_of_year[rows] == month):
            asked = int(rows[n]) - later
            if asked >= 0 and hours.day[asked] == hours.day[rows[n]]:
                found[n] = paths.chance(days, int(day_of[n]), int(hours.local_hour[asked]), later)
    return found


def trained(days: Days, month: int) -> Paths | None:
    """What days about the middle of a month (1 to 12) teach; None where there are too few."""
    middle = (month - 1) * 30.4 + 15
    alike = np.abs((day_of_year(days.number) - middle + 182) % 365 - 182) <= ALIKE_DAYS
    rows = np.flatnonzero(alike & np.isfinite(days.high))
    rows = rows[rows > LEVEL_DAYS]
    if len(rows) < LEAST_DAYS:
        return None
    weekend = _weekend(days, rows)
    levels = np.array([_level(days, int(row), weekend) for row in rows])
    usual = days.high - is_weekend(days.number) * weekend
    kept: Floats = _kept(usual, rows, levels) ** np.arange(1.0, MONTH_DAYS + 1)
    deviations = _deviations(usual, rows, levels, kept)
    rests = tuple(_rest(days, rows, hour) for hour in range(FIRST_ASKED, LAST_HOUR + 1))
    if min(len(deviations), *(len(rest.errors) for rest in rests)) < LEAST_DAYS:
        return None
    return Paths(weekend, kept, deviations, rests)


def _weekend(days: Days, rows: Ints) -> float:
    """Each year with a level of its own."""
    years = days.dates[rows].astype("datetime64[Y]").astype(np.int64)
    of_year = (years[:, None] == np.unique(years)).astype(np.float64)
    return float(regressed(np.column_stack([is_weekend(days.number[rows]), of_year]), days.high[rows])[0])


def _level(days: Days, day: int, weekend: float) -> float:
    """How high the days before one were, but for weekends; NaN where none is recorded."""
    before = slice(max(day - LEVEL_DAYS, 0), day)
    usual = days.high[before] - is_weekend(days.number[before]) * weekend
    there = usual[np.isfinite(usual)]
    return float(there.mean()) if len(there) else np.nan


def _kept(usual: Floats, rows: Ints, levels: Floats) -> float:
    """Share of a day's deviation from the level that the next day has."""
    followed = np.isin(rows + 1, rows)
    now, after = usual[rows[followed]] - levels[followed], usual[rows[followed] + 1] - levels[followed]
    return float(regressed(np.column_stack([now, np.ones(len(now))]), after)[0])


def _deviations(usual: Floats, rows: Ints, levels: Floats, kept: Floats) -> Floats:
    """[like day, 31] how the days after one differed from what was left of its own deviation; whole weeks only."""
    after = rows[:, None] + np.arange(1, MONTH_DAYS + 1)
    is_inside = after[:, -1] < len(usual)
    rows, levels, after = rows[is_inside], levels[is_inside], after[is_inside]
    found: Floats = usual[after] - levels[:, None] - kept * (usual[rows] - levels)[:, None]
    return found[np.isfinite(found).all(axis=1)]


def _rest(days: Days, rows: Ints, hour: int) -> Rest:
    columns = _columns(days, rows, hour)
    grown = days.load[rows, hour : LAST_HOUR + 1].T - days.load[rows, hour - 1]
    by_hour = tuple(regressed(each, wanted) for each, wanted in zip(columns, grown, strict=True))
    errors = [wanted - each @ weights for each, wanted, weights in zip(columns, grown, by_hour, strict=True)]
    error_now = (days.load - days.forecast)[rows, hour - 1]
    after = np.minimum(rows + 1, len(days) - 1)
    missed = np.where(after > rows, (days.high - days.forecast_high)[after], np.nan)
    tomorrow = np.column_stack([error_now, np.ones(len(rows))])
    weights = regressed(tomorrow, missed)
    drawn = np.column_stack([*errors, missed - tomorrow @ weights])
    return Rest(by_hour, weights, WIDER * drawn[np.isfinite(drawn).all(axis=1)])


def _columns(days: Days, rows: Ints, hour: int) -> Floats:
    """[hour from this one on, day, column]: what the forecast and the day before grow by, and the forecast's newest error."""
    to_come, last = np.arange(hour, LAST_HOUR + 1), hour - 1
    error = days.load - days.forecast
    found: Floats = np.stack([
        np.stack([
            days.forecast[rows, j] - days.forecast[rows, last], days.load[rows - 1, j] - days.load[rows - 1, last],
            error[rows, last] - error[rows, last - 1], np.ones(len(rows)),
        ], axis=1)
        for j in to_come
    ])  # fmt: skip
    return found


def _highest_so_far(days: Days, day: int, hour: int) -> float:
    """In the month, before an hour."""
    first = int(np.searchsorted(days.month, days.month[day]))
    seen = np.r_[days.load[first:day].ravel(), days.load[day, :hour]]
    return float(np.nanmax(seen))


def _days_left(number: int) -> int:
    """Of the month after a day."""
    date = np.datetime64(number, "D")
    return int(((date.astype("datetime64[M]") + 1).astype("datetime64[D]") - date).astype(np.int64)) - 1


def _is_published(days: Days, day: int, row: int) -> bool:
    """Whether a day's forecasts are out and recorded as an hour begins."""
    return day < len(days) and bool(row > days.published_row[day]) and bool(np.isfinite(days.forecast_high[day]))


def _cut(hours: Hours, end: int) -> Hours:
    """The first hours of a grid."""
    return Hours(*(getattr(hours, each.name)[..., :end] for each in fields(Hours)))
