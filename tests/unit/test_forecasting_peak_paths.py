"""The chance of a peak as an hour begins: what is known decides, chances add up to about one, and what can't be said isn't."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.forecasting import peak_days, peak_paths, peaks
from hcp_pipelines.forecasting.hindsight import TrainedTooLateError
from hcp_pipelines.forecasting.hours import instant
from tests.support.mixed import hourly_grid, wandering_hours

START = datetime(2023, 4, 1, 5, tzinfo=UTC)  # midnight in Texas
JULY, AUGUST = datetime(2024, 7, 1, 5, tzinfo=UTC), datetime(2024, 8, 1, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def hours():
    return wandering_hours(520, START)


def higher(hours, at, by=1.2):
    """Demand of a day, of which 14 hours are over, on top of all that was."""
    load = hours.load_mw.copy()
    load[at - 14 : at] *= by
    return replace(hours, load_mw=load)


def asked(hours, begin=JULY, end=AUGUST):
    rows = np.arange(hours.row_at(begin), hours.row_at(end))
    return rows, peak_paths.chances_begun(hours, rows, begin)


def test_chances_of_a_month_find_its_peak_and_add_up_to_about_one(hours, monkeypatch):
    monkeypatch.setattr(peak_paths, "WIDER", 1.0)
    rows, chances = asked(hours)
    peak = peaks.peak_hours(hours, (7,))[rows]
    assert np.isfinite(chances).all()
    assert 0.4 < chances.sum() < 2.5
    assert chances[peak][0] > 5 / len(rows)
    assert (chances[hours.local_hour[rows] < peak_paths.FIRST_HOUR] == 0).all()


def test_what_was_higher_before_and_what_is_told_for_tomorrow_leave_no_chance(hours):
    day = datetime(2024, 7, 20, 19, tzinfo=UTC)  # 14 h
    at = hours.row_at(day)
    record, earlier, forecast = higher(hours, at), hours.load_mw.copy(), hours.forecast_mw.copy()
    earlier[at - 24 * 8], forecast[at + 24] = 90_000.0, 150_000.0
    [none] = peak_paths.chances_begun(replace(hours, load_mw=earlier), np.array([at]), JULY)
    [much] = peak_paths.chances_begun(record, np.array([at]), JULY)
    [less] = peak_paths.chances_begun(replace(record, forecast_mw=forecast), np.array([at]), JULY)
    assert none == less == 0 < 0.2 < much
    [before] = peak_paths.chances_begun(replace(record, forecast_mw=forecast), np.array([at - 1]), JULY)
    [same] = peak_paths.chances_begun(record, np.array([at - 1]), JULY)
    assert before == same > 0  # at 13 h tomorrow's forecast is not out


def test_hours_before_a_peak_know_what_was_over_by_then(hours):
    at = hours.row_at(datetime(2024, 7, 20, 19, tzinfo=UTC))  # 14 h
    record, rows = higher(hours, at), np.array([at])
    [hour_ago], [now] = (peak_paths.chances_begun(record, rows, JULY, later) for later in (1, 0))
    fallen = record.load_mw.copy()
    fallen[at - 1] *= 0.5
    [same], [less] = (peak_paths.chances_begun(replace(record, load_mw=fallen), rows, JULY, later) for later in (1, 0))
    assert hour_ago == same > 0
    assert less < now
    month = np.arange(hours.row_at(JULY), hours.row_at(AUGUST))
    ahead = np.full(len(month), 0.5)
    soon = peaks.chances_before(hours, month, ahead, (7,), JULY, 10)
    asked, local = hours.local_hour[month][None] - np.arange(1, 11)[:, None], hours.local_hour[month]
    can_be = (local >= peak_paths.FIRST_HOUR) & (local <= peak_paths.LAST_HOUR)
    assert (soon[(asked < peak_paths.FIRST_ASKED) & (asked >= 0) & can_be] == 0.5).all(), "then the day before's stands"
    assert 0 < soon[(asked >= peak_paths.FIRST_ASKED) & can_be].mean() < 0.02
    assert (soon[(asked >= 0) & ~can_be] == 0).all()
    assert (peaks.chances_before(hours, month, ahead, (8,), JULY, 2) == ahead).all()


def test_on_the_last_day_nothing_comes_after(hours):
    at = hours.row_at(datetime(2024, 7, 31, 19, tzinfo=UTC))
    [chance] = peak_paths.chances_begun(higher(hours, at, 1.4), np.array([at]), JULY)
    assert chance > 0.4


class Regression:
    def probability(self, hours, known_rows, wanted):
        return np.full(len(wanted), 0.123)


def test_what_can_t_be_said_is_left_to_the_regression(hours, monkeypatch):
    at = hours.row_at(datetime(2024, 7, 20, 19, tzinfo=UTC))
    load = hours.load_mw.copy()
    load[at - 1] = np.nan
    gap = replace(hours, load_mw=load)
    assert np.isnan(peak_paths.chances_begun(gap, np.array([at]), JULY)).all()
    monkeypatch.setattr(peaks, "trained", lambda hours, until: lambda is_day_ahead: Regression())
    now, ahead = peaks.chances(gap, np.array([at, at + 1, at + 26]), (7,), JULY)
    assert now[0] == 0.123 != now[2]
    assert (ahead == 0.123).all()
    none = replace(hours, forecast_mw=np.where(np.arange(len(hours)) < at, np.nan, hours.forecast_mw))
    assert np.isnan(peak_paths.chances_begun(none, np.array([at]), JULY)).all()  # how forecasts err was never seen
    short = hourly_grid(24 * 65, datetime(2024, 5, 1, 5, tzinfo=UTC))
    assert np.isnan(peak_paths.chances_begun(short, np.array([short.row_at(JULY)]), JULY)).all()


def test_nothing_is_learnt_from_later_and_who_asks_too_early_is_told(hours):
    end = hours.row_at(JULY)
    later = np.arange(len(hours)) >= end + 24
    changed = replace(
        hours, load_mw=np.where(later, 1.0, hours.load_mw), forecast_mw=np.where(later, 1.0, hours.forecast_mw)
    )
    rows = np.arange(end, end + 14)  # before tomorrow's forecasts are out
    one, two = (peak_paths.chances_begun(each, rows, JULY) for each in (hours, changed))
    assert one.tobytes() == two.tobytes()
    assert one.max() > 0
    with pytest.raises(TrainedTooLateError, match="the paths of demand was trained until 2024-07-01"):
        peak_paths.chances_begun(hours, np.array([end - 1]), JULY)


def test_made_up_forecasts_err_like_recorded_ones_and_leave_those_alone(hours):
    first = hours.row_at(datetime(2024, 1, 1, tzinfo=UTC))
    recorded = replace(hours, forecast_mw=np.where(np.arange(len(hours)) < first, np.nan, hours.forecast_mw))
    forecast = peak_days.with_made_up(recorded)
    assert forecast[first:].tobytes() == hours.forecast_mw[first:].tobytes()
    before = np.arange(24 * 7, first)
    missed = np.log(forecast[before]) - np.log(hours.load_mw[before])
    assert 0.5 < missed.std() / np.std(np.log(hours.forecast_mw) - np.log(hours.load_mw)) <= 1.0
    away = np.log(forecast[before])
    usual = np.array([away[hours.local_hour[before] == hour].mean() for hour in range(24)])[hours.local_hour[before]]
    assert abs(np.corrcoef(missed, away - usual)[0, 1]) < 0.15  # an error says nothing about itself


def test_a_day_that_is_not_over_has_no_high():
    part = hourly_grid(24 * 3 + 15, START)
    days = peak_days.days_of(part, part.forecast_mw)
    assert np.isfinite(days.high).tolist() == [True, True, True, False]
    assert instant(int(part.starts_us[days.row[2, 14]])) == START + timedelta(days=2, hours=14)
