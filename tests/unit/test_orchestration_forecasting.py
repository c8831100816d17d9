"""The peaks of a day from a replayed folder, the check's judgement, and a day that has not begun."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting import peak_paths, peaks
from hcp_pipelines.forecasting.known_prices import GRACE
from hcp_pipelines.orchestration.forecasting import coincident_peaks
from hcp_pipelines.orchestration.watching import LEAST_FORECASTS, greatest_age, judged
from hcp_pipelines.settings import Settings
from tests.support.mixed import wandering_hours, write_grid

START = datetime(2023, 4, 1, 5, tzinfo=UTC)
DAY = datetime(2024, 6, 19, tzinfo=UTC)
END = DAY + timedelta(days=1)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Demand and its forecast of fifteen months in a folder, and the same as hours."""
    hours = wandering_hours(460, START)
    folder = write_grid(tmp_path_factory.mktemp("recorded"), hours)
    return folder, hours


def asked(tmp_path, folder, now):
    return coincident_peaks(Settings(state_dir=tmp_path, world=f"replay:{folder}"), (DAY, END), now)


@pytest.mark.parametrize("asked_after_h", [24, 20.3])
def test_the_asset_s_probabilities_are_the_back_test_s(tmp_path, recorded, asked_after_h):
    folder, hours = recorded
    rows = hours.row_at(DAY) + np.arange(24)
    begun, ahead = peaks.chances(hours, rows, (6, 7, 8, 9), DAY)
    can_be_peak = (hours.local_hour[rows] >= peak_paths.FIRST_HOUR) & (hours.local_hour[rows] <= peak_paths.LAST_HOUR)
    counted = peak_paths.chances_begun(hours, rows, DAY)
    assert np.isfinite(counted).all()
    assert counted[can_be_peak].max() > 0.1, "a day on which it matters who speaks"
    found, known = asked(tmp_path, folder, DAY + timedelta(hours=asked_after_h)), min(int(asked_after_h) + 1, 24)
    assert found.told["method"] == f"counted: {known} h"
    assert len(found.table) == 24
    assert found.table["probability"].to_list()[:known] == pytest.approx(begun[:known].tolist(), rel=1e-9)
    assert found.table["probability"][known:].is_null().all()
    assert found.table["probability_day_ahead"].to_list() == pytest.approx(ahead.tolist(), rel=1e-9)
    assert found.table["is_charged"].all()


def test_hours_that_paths_say_nothing_of_are_told_apart(tmp_path, recorded):
    _, hours = recorded
    load = hours.load_mw.copy()
    load[hours.row_at(DAY) + 18] = np.nan
    found = asked(tmp_path, write_grid(tmp_path, replace(hours, load_mw=load)), END)
    assert found.told["method"] == "counted: 22 h, logistic: 2 h"  # both want it


def test_what_can_t_be_asked_yet_is_null_and_what_can_stays_as_it_was(tmp_path, recorded):
    folder, _ = recorded
    now = DAY + timedelta(hours=19, minutes=20)
    early, late = (asked(tmp_path, folder, at).table for at in (now, END))
    assert early["probability"].is_not_null().sum() == 20
    assert early["probability"][:20].equals(late["probability"][:20])
    assert early["probability_day_ahead"].equals(
        late["probability_day_ahead"]
    )  # all of it was published the day before


def test_a_first_season_and_a_day_to_come_say_so(tmp_path, recorded):
    folder, _ = recorded
    first = (datetime(2023, 5, 3, tzinfo=UTC), datetime(2023, 5, 4, tzinfo=UTC))
    settings = Settings(state_dir=tmp_path, world=f"replay:{folder}")
    assert (coincident_peaks(settings, first, END).table["probability"] == 0).all()  # May is not charged for
    june = (datetime(2023, 5, 31, tzinfo=UTC), datetime(2023, 6, 1, 6, tzinfo=UTC))
    assert "no month of May to October with demand ended" in coincident_peaks(settings, june, END).told["why"]
    after = (datetime(2024, 7, 10, tzinfo=UTC), datetime(2024, 7, 11, tzinfo=UTC))
    assert coincident_peaks(settings, after, after[1]).told["why"] == "no ercot_load_mw of the day before is recorded"
    with pytest.raises(ConfigError, match="2024-06-19 has not begun: it is 2024-06-18 23:00Z in this world"):
        asked(tmp_path, folder, DAY - timedelta(hours=1))


@pytest.mark.parametrize(
    ("newest", "forecasts", "coverage", "passed", "why"),
    [
        (None, 0, None, False, "no forecast is in the lake yet"),
        (DAY - timedelta(hours=2, minutes=12), 5000, 0.8, False, "2.2 h old, the limit is 2.1 h: are runs"),
        (DAY, 100, 0.2, True, f"too few to judge, {LEAST_FORECASTS} are needed"),
        (DAY, 5000, 0.8, True, "0.80 over a week, lies in 0.65–0.95"),
        (DAY, 5000, 0.64, False, "0.64 over a week, is out of"),
        (DAY, 5000, 0.99, False, "0.99 over a week, is out of"),
    ],
)
def test_the_check(newest, forecasts, coverage, passed, why):
    found = judged(newest, DAY, forecasts, coverage, greatest_age(1.0))
    assert found.passed is passed
    assert why in found.why


def test_a_faster_world_s_forecasts_may_be_older_by_what_passes_between_two_runs():
    assert greatest_age(0.5) == greatest_age(1.0) == timedelta(hours=2) + GRACE
    assert greatest_age(60.0) == timedelta(hours=61) + GRACE
