"""Scores of the chances of peaks: what the peak's hour was given, month by month, learnt from before each."""

import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting import peaks
from hcp_pipelines.forecasting.peak_scores import peak_scores
from tests.support.mixed import hourly_grid

START = datetime(2023, 4, 1, 5, tzinfo=UTC)
SEASON = (datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 8, 1, tzinfo=UTC))
CHARGED = (6, 7, 8, 9)


def nothing(*_):
    pass


def test_a_model_that_knows_nothing_has_no_skill_and_one_that_knows_all_has_all(monkeypatch):
    hours, asked = hourly_grid(24 * 500, START), []

    def same(hours, rows, months, until):
        asked.append(until)
        return np.full(len(rows), 1 / len(rows)), peaks.peak_hours(hours, months)[rows].astype(float)

    monkeypatch.setattr(peaks, "chances", same)
    found = peak_scores(hours, SEASON, CHARGED, nothing)
    assert found["month"].to_list() == ["2024-06", "2024-07"]
    assert asked == [datetime(2024, 6, 1, 5, tzinfo=UTC), datetime(2024, 7, 1, 5, tzinfo=UTC)]
    assert found["hours"].to_list() == [720, 19 + 30 * 24]  # the window ends five hours before the local month
    assert found["skill_begun"].to_list() == pytest.approx([0, 0], abs=1e-9)
    assert found["sum_begun"].to_list() == pytest.approx([1, 1])
    for name, value in (("skill", 1), ("chance", 1), ("rank", 1), ("sum", 1), ("hours", 1)):
        assert found[f"{name}_ahead"].to_list() == [value] * 2


def test_the_command_on_recorded_files(tmp_path):
    hours = hourly_grid(24 * 500, START)
    starts = pl.Series(hours.starts_us).cast(pl.Datetime("us", "UTC"))
    capacity = {
        f"{name}_mcpc_usd_per_mw_h": row for name, row in zip(("rrs", "ecrs", "nspin"), hours.mcpc, strict=True)
    }
    for name, columns in {
        "load": {"ercot_load_mw": hours.load_mw}, "forecast": {"da_demand_forecast_mw": hours.forecast_mw}, "capacity": capacity,
        "weather": {"temperature_c": hours.temperature_c, "dew_point_c": hours.temperature_c - 5},
    }.items():  # fmt: skip
        pl.DataFrame({"interval_start_utc": starts} | columns).write_parquet(tmp_path / f"{name}.parquet")
    arguments = ["forecast", "peaks", "--prices", str(tmp_path), "--from", "2024-06-01"]
    told = json.loads(
        CliRunner().invoke(cli, [*arguments, "--to", "2024-08-01", "--json"], catch_exceptions=False).stdout
    )
    assert [month["month"] for month in told["months"]] == ["2024-06", "2024-07"]
    assert all(month["chance_begun"] > 0.01 for month in told["months"])
    with pytest.raises(
        ConfigError, match="no month of 6, 7, 8, 9 with demand to its end from 2024-06-01 to 2024-06-20"
    ):
        CliRunner().invoke(cli, [*arguments, "--to", "2024-06-20"], catch_exceptions=False)
