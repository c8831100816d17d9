"""Paths of prices: today's curve with a fading error, and with what was new on past days; nothing ahead of its time."""

import numpy as np
import pytest

from hcp_pipelines.forecasting.power_features import power_features
from hcp_pipelines.forecasting.price_paths import PAST_DAYS, price_paths

DAY = 96
AT = np.array([40 * DAY + 50])


def test_the_present_error_fades_into_the_day_ahead_curve():
    day_ahead = np.full(42 * DAY, 30.0)
    known = day_ahead.copy()
    known[AT] = 130.0
    path = price_paths(known, day_ahead, 15, delay=0).fading(AT, 0.5)[:, 0]
    assert len(path) == 16
    assert path[:3].tolist() == pytest.approx([80.0, 55.0, 42.5])


def test_a_past_days_path_has_what_happened_then():
    day_ahead = np.full(42 * DAY, 30.0)
    known = day_ahead.copy()
    known[AT[0] - 3 * DAY + 2] = 530.0  # three days ago, half an hour later
    paths = list(price_paths(known, day_ahead, 15, delay=0).as_on_past_days(AT, 0.9))
    assert len(paths) == PAST_DAYS
    assert all(was_there.all() for _, was_there in paths)
    dear = [day for day, (path, _) in enumerate(paths, 1) if path.max() > 400]
    assert dear == [3]
    assert paths[2][0][:, 0].argmax() == 1


def test_days_before_the_first_price_are_no_paths():
    known = np.full(5 * DAY, 30.0)
    paths = price_paths(known, known, 15, delay=0).as_on_past_days(np.array([2 * DAY + 1]), 0.9)
    assert sum(bool(was_there.all()) for _, was_there in paths) == 2


def test_told_late_a_path_begins_with_the_interval_that_is_decided_on():
    day_ahead = np.arange(42.0 * DAY)
    early = price_paths(day_ahead, day_ahead, 15, delay=0).fading(AT, 0.9)
    late = price_paths(np.r_[np.nan, day_ahead[:-1]], day_ahead, 15, delay=1).fading(AT, 0.9)
    assert late[0, 0] == day_ahead[AT[0]]
    assert early[0, 0] == day_ahead[AT[0] + 1]


def test_without_a_day_ahead_price_the_last_week_stands_for_it():
    known = np.tile(np.arange(96.0), 42)
    paths = price_paths(known, np.full(len(known), np.nan), 15, delay=0)
    assert paths.fading(AT, 0.9)[:, 0].tolist() == pytest.approx([51.0 + n for n in range(16)])


def test_the_sun_is_highest_at_noon_in_june_and_down_at_midnight():
    hours = np.datetime64("2024-06-21T06:00") + np.arange(24) * np.timedelta64(1, "h")  # Texas: from about midnight on
    starts_us = hours.astype("datetime64[us]").astype(np.int64)
    sun = power_features(np.zeros(24), np.zeros(24), starts_us, 60, 0).plain["sun"]
    assert sun.max() == pytest.approx(np.sin(np.deg2rad(90 - 31 + 23.4)), abs=0.01)
    assert sun.argmax() in (12, 13)
    assert sun[0] < -0.5
