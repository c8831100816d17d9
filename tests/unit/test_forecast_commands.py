"""`hcp forecast compare` and `hcp forecast demand`: what they say of made-up prices and of a made-up cluster."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from hcp_pipelines.cli import forecast as command
from hcp_pipelines.cli.main import cli
from hcp_pipelines.domain.errors import ConfigError
from hcp_pipelines.forecasting.learnable.targets.demand import DemandTarget
from tests.support.recorded import DAY, random_prices, write_folder


def run(*arguments):
    return CliRunner().invoke(cli, ["forecast", *arguments], catch_exceptions=False).stdout


def test_prices_are_compared_with_the_week_before_the_day_ahead_price_and_lear(tmp_path, monkeypatch):
    small = tuple(replace(each, trees=5, learning_rate=0.3) for each in command.BLEND.members)
    monkeypatch.setattr(command, "BLEND", replace(command.BLEND, members=small))
    write_folder(tmp_path, random_prices(96 * 75))
    window = ["--from", f"{DAY + timedelta(days=62):%Y-%m-%d}", "--to", f"{DAY + timedelta(days=74):%Y-%m-%d}"]
    arguments = ["compare", "--prices", str(tmp_path), "--point", "HB_TEST", *window, "--lear"]
    told = json.loads(run(*arguments, "--json"))
    assert list(told["scores"]) == ["seasonal_naive", "day_ahead_or_last", "blend"]
    assert told["scores"]["blend"][-1]["horizon"] == "all"
    assert [each["other"] for each in told["beside"]] == [
        "seasonal_naive",
        "day_ahead_or_last",
        "day_ahead_or_last, where published",
        "lear",
    ]
    assert told["lear"]["over_weekly"] > 0
    with pytest.raises(ConfigError, match="at least 28 are needed"):
        run(
            *arguments[:5],
            "--from",
            f"{DAY + timedelta(days=20):%Y-%m-%d}",
            "--to",
            f"{DAY + timedelta(days=40):%Y-%m-%d}",
        )


def test_demand_of_a_cluster(tmp_path, monkeypatch):
    small = tuple(each for each in DemandTarget().models if each.name in ("seasonal_naive", "naive", "fading"))
    monkeypatch.setattr(command, "DemandTarget", lambda every_h: DemandTarget(models=small, every_h=every_h))
    random = np.random.default_rng(0)
    began = np.sort(random.integers(0, 45 * 86_400, 2000))
    tasks = {
        "num_gpu": random.choice([0, 1, 8], 2000), "gpu_milli": random.choice([500, 1000], 2000),
        "qos": random.choice(["LS", "BE", "Burstable"], 2000), "creation_s": began,
        "deletion_s": began + random.integers(0, 80_000, 2000),
    }  # fmt: skip
    file = tmp_path / "tasks.parquet"
    pl.DataFrame(tasks).write_parquet(file)
    arguments = [
        "demand",
        "--trace",
        str(file),
        "--learn-from-day",
        "3",
        "--from-day",
        "30",
        "--to-day",
        "44",
        "--every-h",
        "7",
    ]
    told = json.loads(run(*arguments, "--json"))
    assert told["ships"] == "fading"
    rows = {row["entity"]: row for row in told["scores"]["fading"] if row["horizon"] == "all"}
    assert set(rows) == {"latency_sensitive", "best_effort", "other", "total", "all"}
    assert 0 < rows["total"]["smape"] < 0.5
    assert [each["other"] for each in told["beside"]] == ["seasonal_naive", "naive"]
    printed = run(*arguments)
    assert "fading beside seasonal_naive: loss over its" in printed
